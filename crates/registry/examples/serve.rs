//! The registry alone, to measure it and to run other people's suites against it:
//! `serve <address> <directory> <repository>...`; user `AWS`, password `secret`.

use std::error::Error;
use std::path::Path;
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use registry::{Authenticate, Login, Registry};
use state::ecr::{Mutability, Repository};
use state::{Db, Scope, TimeMs};
use store::blobs::Blobs;
use tokio::net::TcpListener;

struct OnePassword;

fn scope() -> Scope {
    Scope::new("000000000000", "us-east-1")
}

impl Authenticate for OnePassword {
    fn login(&self, password: &str, _now_ms: TimeMs) -> Option<Login> {
        (password == "secret").then(|| Login { arn: scope().iam_arn("root"), scope: scope() })
    }
}

fn create(db: &Arc<Db>, name: String) -> Result<(), Box<dyn Error>> {
    let repository = Repository {
        scope: scope(),
        name,
        mutability: Mutability { mode: "MUTABLE".into(), exclusions: Vec::new() },
        scan_on_push: false,
        policy: None,
        lifecycle_policy: None,
        tags: Vec::new(),
        created_at_ms: 0,
    };
    let created = db.decide_blocking(|tx| {
        tx.put(repository);
        Ok::<_, std::convert::Infallible>(())
    })?;
    let Ok(()) = created;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let usage = "serve <address> <directory> <repository>...";
    let (address, directory) = (arguments.next().ok_or(usage)?, arguments.next().ok_or(usage)?);
    let directory = Path::new(&directory);
    let db = Db::open(Arc::new(store::embedded(&directory.join("state"))?))?;
    for name in arguments {
        create(&db, name)?;
    }
    let blobs = Arc::new(Blobs::open(&directory.join("blobs"))?);
    let registry = Registry::new(db, blobs, Arc::new(OnePassword));
    let listener = TcpListener::bind(address).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let registry = registry.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let registry = registry.clone();
                async move { Ok::<_, std::convert::Infallible>(registry.handle(request).await) }
            });
            let http = hyper::server::conn::http1::Builder::new();
            if let Err(error) = http.serve_connection(TokioIo::new(socket), service).await {
                eprintln!("a connection ended: {error}");
            }
        });
    }
}
