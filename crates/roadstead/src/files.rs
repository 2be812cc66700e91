//! How many files and connections this process may have open, and who gets how many of them.

use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What the system allows, once the soft limit is raised to the hard one.
pub struct Files {
    /// How many may be open.
    pub limit: u64,
    /// The soft limit that this process was started with: what it starts is to have that.
    pub soft_before: Option<u64>,
}

/// Raises the limit, the first time.
pub fn files() -> &'static Files {
    static FILES: OnceLock<Files> = OnceLock::new();
    FILES.get_or_init(|| match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((soft, hard)) => match setrlimit(Resource::RLIMIT_NOFILE, hard, hard) {
            Ok(()) => Files { limit: hard, soft_before: Some(soft) },
            Err(error) => {
                tracing::warn!(%error, soft, hard, "the limit of open files cannot be raised");
                Files { limit: soft, soft_before: None }
            }
        },
        // Linux's own default.
        Err(_) => Files { limit: 1024, soft_before: None },
    })
}

impl Files {
    /// Clients of the API and the registry: a quarter, and no more than a machine's clients will ever be.
    pub fn api_connections_max(&self) -> usize {
        share(self.limit / 4).min(4096)
    }

    /// Clients of load balancers: half of it, for each may need a second one to a target. A quarter stays for the rest.
    pub fn balancer_connections_max(&self) -> usize {
        share(self.limit / 4)
    }
}

fn share(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX).max(16)
}
