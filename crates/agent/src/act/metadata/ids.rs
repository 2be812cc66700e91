//! The ids by which containers ask for their metadata and credentials: chosen once per group and kept, because they
//! stand in the containers' environment.

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use state::assignment::Assignment;

use super::super::network::METADATA_ADDRESS;

/// The ids of one group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointIds {
    /// The last part of the credentials' path. Secret: in `host` mode it alone tells tasks apart.
    pub credentials: String,
    /// For each container the part of the path that names it.
    pub containers: Vec<String>,
}

impl EndpointIds {
    /// The ids of a group, kept in its folder.
    ///
    /// # Errors
    /// Those of reading or writing the file.
    pub fn of_group(dir: &Path, assignment: &Assignment) -> io::Result<EndpointIds> {
        let path = dir.join("endpoint.json");
        let count = assignment.spec.containers.len();
        let kept = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<EndpointIds>(&bytes).ok());
        if let Some(kept) = kept.filter(|ids| ids.containers.len() == count) {
            return Ok(kept);
        }
        let ids = EndpointIds::random(&assignment.id, count)?;
        let new = path.with_extension("new");
        let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&serde_json::to_vec(&ids)?)?;
        fs::rename(new, path)?;
        Ok(ids)
    }

    fn random(task: &str, containers: usize) -> io::Result<EndpointIds> {
        let mut random = fs::File::open("/dev/urandom")?;
        let mut bytes = [0; 16];
        random.read_exact(&mut bytes)?;
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        let credentials = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
        let containers = (0..containers).map(|_| {
            let mut bytes = [0; 8];
            random.read_exact(&mut bytes)?;
            Ok(format!("{task}-{}", u64::from_le_bytes(bytes) % 9_000_000_000 + 1_000_000_000))
        });
        Ok(EndpointIds { containers: containers.collect::<io::Result<_>>()?, credentials })
    }

    /// The variables by which a container, and the AWS SDKs in it, find all this. `credentials`: the node gives them.
    pub fn environment(
        &self,
        assignment: &Assignment,
        container: usize,
        credentials: bool,
    ) -> Vec<(String, String)> {
        let mut variables = Vec::new();
        let mut add = |name: &str, value: String| variables.push((name.to_owned(), value));
        let kind = if assignment.launch_type == "FARGATE" { "AWS_ECS_FARGATE" } else { "AWS_ECS_EC2" };
        add("AWS_EXECUTION_ENV", kind.to_owned());
        // ECS sets the region on Fargate only: elsewhere the SDKs ask the instance's own metadata, of which there is
        // none here.
        add("AWS_DEFAULT_REGION", assignment.region.clone());
        add("AWS_REGION", assignment.region.clone());
        if let Some(id) = self.containers.get(container) {
            add("ECS_CONTAINER_METADATA_URI_V4", format!("http://{METADATA_ADDRESS}/v4/{id}"));
        }
        if credentials && assignment.spec.task_role_arn.is_some() {
            let path = format!("/v2/credentials/{}", self.credentials);
            add("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", path);
        }
        variables
    }
}
