//! The whole control state at one revision.

use crate::node::{Ledger, Node};
use crate::record::{Record, RecordError, Table, decode, encode};
use crate::room::Room;

/// A snapshot that holds records of kind `T`.
pub trait HasTable<T: Record> {
    /// The table of this kind.
    fn table(&self) -> &Table<T>;
    /// The table of this kind, to write.
    fn table_mut(&mut self) -> &mut Table<T>;
}

macro_rules! tables {
    ($($(#[$doc:meta])* $field:ident: $ty:ty,)*) => {
        /// The control state at one revision. Cloning is a pointer copy per table.
        #[derive(Debug, Clone, Default)]
        pub struct Snapshot {
            /// The store's revision that this is the state of.
            pub revision: u64,
            /// What is free on which node.
            pub room: Room,
            $($(#[$doc])* pub $field: Table<$ty>,)*
        }

        $(impl HasTable<$ty> for Snapshot {
            fn table(&self) -> &Table<$ty> { &self.$field }
            fn table_mut(&mut self) -> &mut Table<$ty> { &mut self.$field }
        })*

        impl crate::tx::Tx {
            /// Deletes every record of every table.
            pub fn clear(&mut self) {
                $(
                    let keys: Vec<String> = self.table::<$ty>().iter().map(|(key, _)| key.to_owned()).collect();
                    for key in keys {
                        self.delete::<$ty>(&key);
                    }
                )*
            }
        }

        impl Snapshot {
            /// Every record as it is stored: table, key, revision, bytes.
            pub fn written_down(&self) -> Vec<(u8, String, u64, Vec<u8>)> {
                let mut all = Vec::new();
                $(all.extend(self.$field.rows().map(|(key, row)| {
                    (<$ty as Record>::TABLE, key.to_owned(), row.revision, encode(&*row.value))
                }));)*
                all
            }

            /// Applies one stored write; `None` deletes. Errors: an unknown table or a record that cannot be read.
            pub fn apply(
                &mut self, table: u8, key: &str, revision: u64, value: Option<&[u8]>,
            ) -> Result<(), RecordError> {
                match table {
                    $(t if t == <$ty as Record>::TABLE => match value {
                        Some(bytes) => self.$field.insert(key, revision, decode::<$ty>(bytes)?),
                        None => self.$field.remove(key),
                    },)*
                    other => return Err(RecordError(format!(
                        "the store holds a table {other} that this program does not know; a newer version wrote it"
                    ))),
                }
                self.written(table, key);
                Ok(())
            }
        }
    };
}

impl Snapshot {
    /// What is kept beside the records follows the one that was written or deleted.
    pub(crate) fn written(&mut self, table: u8, key: &str) {
        if matches!(table, Node::TABLE | Ledger::TABLE) {
            let (node, ledger) = (self.nodes.get(key), self.ledgers.get(key));
            self.room.follow(key, node.map(|node| &**node), ledger.map(|ledger| &**ledger));
        }
    }
}

tables! {
    /// ECS clusters.
    clusters: crate::ecs::Cluster,
    /// ECS task definition revisions.
    task_definitions: crate::ecs::TaskDefinition,
    /// The last revision number of each family.
    families: crate::ecs::Family,
    /// ECS services.
    services: crate::ecs::Service,
    /// ECS service revisions: what a deployment rolls out.
    service_revisions: crate::ecs::ServiceRevision,
    /// ECS account settings.
    account_settings: crate::ecs::AccountSetting,
    /// Tasks and pods.
    groups: crate::group::ContainerGroup,
    /// Compiled specifications, shared by the groups that run them.
    specs: crate::group::SpecRecord,
    /// Machines that run groups.
    nodes: crate::node::Node,
    /// What is taken of each node.
    ledgers: crate::node::Ledger,
    /// VPCs.
    vpcs: crate::ec2::Vpc,
    /// Subnets.
    subnets: crate::ec2::Subnet,
    /// Security groups.
    security_groups: crate::ec2::SecurityGroup,
    /// Load balancers.
    load_balancers: crate::elb::LoadBalancer,
    /// Target groups.
    target_groups: crate::elb::TargetGroup,
    /// Listeners.
    listeners: crate::elb::Listener,
    /// Listener rules.
    rules: crate::elb::Rule,
    /// Registered targets.
    targets: crate::elb::Target,
    /// Cloud Map namespaces.
    namespaces: crate::cloudmap::Namespace,
    /// Cloud Map services.
    discovery_services: crate::cloudmap::DiscoveryService,
    /// Cloud Map instances.
    discovery_instances: crate::cloudmap::Instance,
    /// Cloud Map operations.
    discovery_operations: crate::cloudmap::Operation,
    /// IAM roles.
    roles: crate::iam::Role,
    /// IAM managed policies.
    policies: crate::iam::Policy,
    /// Log groups.
    log_groups: crate::logs::LogGroup,
    /// Log streams.
    log_streams: crate::logs::LogStream,
    /// ECR repositories.
    repositories: crate::ecr::Repository,
    /// Manifests of repositories.
    images: crate::ecr::Image,
    /// Tags of images.
    image_tags: crate::ecr::ImageTag,
    /// Blobs of repositories.
    layer_links: crate::ecr::LayerLink,
    /// Uploads of blobs under way.
    layer_uploads: crate::ecr::LayerUpload,
}
