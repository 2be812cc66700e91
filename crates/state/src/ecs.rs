//! ECS records: clusters, task definitions, services and their revisions, account settings.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::group::GroupSpec;
use crate::record::Record;
use crate::{Scope, Tags, TimeMs};

/// An ECS cluster.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Cluster {
    /// Account and region.
    pub scope: Scope,
    /// Its name.
    pub name: String,
    /// `ACTIVE` or `INACTIVE` (deleted clusters stay visible by name, as in ECS).
    pub active: bool,
    /// Settings: (name, value), such as `containerInsights`.
    pub settings: Vec<(String, String)>,
    /// `configuration` as given, in the JSON of the ECS API.
    pub configuration: Option<serde_json::Value>,
    /// Capacity providers associated.
    pub capacity_providers: Vec<String>,
    /// The default strategy.
    pub default_strategy: Vec<StrategyItem>,
    /// The default Service Connect namespace's ARN.
    pub service_connect_namespace: Option<String>,
    /// Tags.
    pub tags: Tags,
    /// When it was created.
    pub created_at_ms: TimeMs,
}

impl Cluster {
    /// `arn:aws:ecs:…:cluster/name`.
    pub fn arn(&self) -> String {
        self.scope.arn("ecs", &format!("cluster/{}", self.name))
    }
}

impl Record for Cluster {
    const TABLE: u8 = 1;
    fn key(&self) -> String {
        self.scope.key(&self.name)
    }
}

/// One item of a capacity provider strategy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StrategyItem {
    /// `FARGATE` or `FARGATE_SPOT`.
    pub provider: String,
    /// Share of tasks after the base.
    pub weight: u32,
    /// Tasks that go here first.
    pub base: u32,
}

/// One revision of a task definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskDefinition {
    /// Account and region.
    pub scope: Scope,
    /// The family.
    pub family: String,
    /// The revision, from 1.
    pub revision: u32,
    /// Its life.
    pub status: TaskDefinitionStatus,
    /// The definition as registered and normalised, in the JSON of the ECS API's `TaskDefinition`
    /// (without ARN, revision, status and times), to be shown again.
    pub document: Arc<serde_json::Value>,
    /// What it compiles to, without overrides.
    pub spec: Arc<GroupSpec>,
    /// `requiresCompatibilities` as given.
    pub requires: Vec<String>,
    /// `compatibilities` it is valid for (`EC2`, `FARGATE`).
    pub compatibilities: Vec<String>,
    /// Tags.
    pub tags: Tags,
    /// When it was registered.
    pub registered_at_ms: TimeMs,
    /// The caller's ARN.
    pub registered_by: String,
    /// When it was deregistered.
    pub deregistered_at_ms: Option<TimeMs>,
    /// When its deletion was asked for.
    #[serde(default)]
    pub delete_requested_at_ms: Option<TimeMs>,
}

/// The life of a task definition revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum TaskDefinitionStatus {
    /// Can be run.
    Active,
    /// Deregistered: what runs goes on.
    Inactive,
    /// Being deleted: gone when nothing uses it.
    DeleteInProgress,
}

impl TaskDefinitionStatus {
    /// The text shown by the API.
    pub fn as_str(self) -> &'static str {
        match self {
            TaskDefinitionStatus::Active => "ACTIVE",
            TaskDefinitionStatus::Inactive => "INACTIVE",
            TaskDefinitionStatus::DeleteInProgress => "DELETE_IN_PROGRESS",
        }
    }
}

impl TaskDefinition {
    /// The record key: `account/region/family/0000000007`, so that revisions sort by number.
    pub fn key_of(scope: &Scope, family: &str, revision: u32) -> String {
        scope.key(&format!("{family}/{revision:010}"))
    }

    /// `arn:aws:ecs:…:task-definition/family:revision`.
    pub fn arn(&self) -> String {
        self.scope.arn("ecs", &format!("task-definition/{}:{}", self.family, self.revision))
    }
}

impl Record for TaskDefinition {
    const TABLE: u8 = 2;
    fn key(&self) -> String {
        Self::key_of(&self.scope, &self.family, self.revision)
    }
}

/// The last revision number a family has used: never used again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Family {
    /// Account and region.
    pub scope: Scope,
    /// The family.
    pub name: String,
    /// The last revision registered.
    pub last_revision: u32,
}

impl Record for Family {
    const TABLE: u8 = 3;
    fn key(&self) -> String {
        self.scope.key(&self.name)
    }
}

/// An ECS service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Account and region.
    pub scope: Scope,
    /// The cluster's name.
    pub cluster: String,
    /// Its name.
    pub name: String,
    /// Its life. Writer: handlers (ACTIVE → DRAINING), the service controller (DRAINING → INACTIVE).
    pub status: ServiceStatus,
    /// Tasks wanted. Writer: handlers and autoscaling.
    pub desired_count: u32,
    /// What new deployments roll out. Writer: handlers, and the service controller when it rolls back.
    pub template: ServiceTemplate,
    /// Raised by every call that wants a new deployment. Writer: handlers.
    pub generation: u64,
    /// How deployments proceed.
    pub deployment: DeploymentConfiguration,
    /// Seconds in which failing load balancer checks of a started task do not count.
    pub health_check_grace_period_s: Option<u32>,
    /// `REPLICA` or `DAEMON`.
    pub scheduling_strategy: String,
    /// `ENABLED` or `DISABLED`, shown.
    pub availability_zone_rebalancing: String,
    /// `SERVICE`, `TASK_DEFINITION` or `NONE`.
    pub propagate_tags: String,
    /// Tasks get `aws:ecs:…` tags.
    pub enable_ecs_managed_tags: bool,
    /// ECS Exec.
    pub enable_execute_command: bool,
    /// The role given, for load balancers.
    pub role_arn: Option<String>,
    /// The caller's idempotency token.
    pub client_token: Option<String>,
    /// Tags.
    pub tags: Tags,
    /// When it was created.
    pub created_at_ms: TimeMs,
    /// The caller's ARN.
    pub created_by: String,
    /// Newest first: at most one PRIMARY. Writer: the service controller.
    pub deployments: Vec<Deployment>,
    /// Newest first, at most 100; shared, for a service is copied at each look at it. Writer: the service and targets
    /// controllers.
    pub events: Arc<Vec<ServiceEvent>>,
    /// Whether the last plan had nothing to do ("has reached a steady state."). Writer: the service controller.
    pub steady: bool,
    /// When it became INACTIVE.
    pub deleted_at_ms: Option<TimeMs>,
}

/// What a deployment of a service rolls out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct ServiceTemplate {
    /// The task definition's ARN.
    pub task_definition_arn: String,
    /// `FARGATE`, `EC2`, or empty with a strategy.
    pub launch_type: String,
    /// The capacity provider strategy.
    pub strategy: Vec<StrategyItem>,
    /// Fargate's platform version asked for, such as `LATEST`.
    pub platform_version: Option<String>,
    /// Subnets of `awsvpc` tasks.
    pub subnets: Vec<String>,
    /// Security groups of `awsvpc` tasks.
    pub security_groups: Vec<String>,
    /// `ENABLED` or `DISABLED`.
    pub assign_public_ip: Option<String>,
    /// Target groups.
    pub load_balancers: Vec<ServiceLoadBalancer>,
    /// Cloud Map services.
    pub registries: Vec<ServiceRegistry>,
    /// Placement constraints: type, expression.
    pub placement_constraints: Vec<(String, Option<String>)>,
    /// Placement strategies: type, field.
    pub placement_strategy: Vec<(String, Option<String>)>,
}

impl ServiceTemplate {
    /// Whether its tasks run on Fargate: a strategy names Fargate's providers alone.
    pub fn is_fargate(&self) -> bool {
        self.launch_type == "FARGATE" || !self.strategy.is_empty()
    }
}

/// A target group that a service's tasks are registered with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceLoadBalancer {
    /// The target group's ARN.
    pub target_group_arn: String,
    /// The container that receives.
    pub container_name: String,
    /// Its port.
    pub container_port: u16,
}

/// A Cloud Map service that a service's tasks are registered with.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ServiceRegistry {
    /// `arn:aws:servicediscovery:…:service/srv-…`.
    pub registry_arn: String,
    /// The port registered, if given.
    pub port: Option<u16>,
    /// The container whose port is registered.
    pub container_name: Option<String>,
    /// See `container_name`.
    pub container_port: Option<u16>,
}

/// ECS service `status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceStatus {
    /// Runs.
    Active,
    /// Deleted; tasks are being stopped.
    Draining,
    /// Gone; still described.
    Inactive,
}

impl ServiceStatus {
    /// The text shown by the API.
    pub fn as_str(self) -> &'static str {
        match self {
            ServiceStatus::Active => "ACTIVE",
            ServiceStatus::Draining => "DRAINING",
            ServiceStatus::Inactive => "INACTIVE",
        }
    }
}

/// ECS `deploymentConfiguration`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeploymentConfiguration {
    /// Percent of desired count that may exist at once, rounded down.
    pub maximum_percent: u32,
    /// Percent of desired count that must be healthy, rounded up.
    pub minimum_healthy_percent: u32,
    /// A deployment that keeps failing ends as FAILED.
    pub breaker_enabled: bool,
    /// … and the last completed one is rolled out again.
    pub breaker_rollback: bool,
}

/// One deployment of a service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Deployment {
    /// `ecs-svc/` and 19 digits.
    pub id: String,
    /// The [`Service::generation`] that it rolls out.
    pub generation: u64,
    /// `PRIMARY` (being rolled out, or the one that runs) rather than `ACTIVE` (being replaced).
    pub primary: bool,
    /// What it rolls out.
    pub template: ServiceTemplate,
    /// Tasks wanted of it.
    pub desired_count: u32,
    /// How far it is.
    pub rollout: Rollout,
    /// `rolloutStateReason`.
    pub rollout_reason: String,
    /// Tasks that failed: all of a rollout, and in a row once it is completed.
    pub failed_tasks: u32,
    /// Tasks are not started before this time (backoff after failures).
    pub backoff_until_ms: TimeMs,
    /// All its tasks ran at once, completed or not: it can be rolled back to.
    pub was_whole: bool,
    /// `serviceRevision` id: 19 digits.
    pub revision_id: String,
    /// When it was created.
    pub created_at_ms: TimeMs,
    /// When it was last changed.
    pub updated_at_ms: TimeMs,
}

/// ECS `rolloutState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rollout {
    /// Under way.
    InProgress,
    /// All tasks of it run, none of others.
    Completed,
    /// The circuit breaker ended it.
    Failed,
}

impl Rollout {
    /// The text shown by the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Rollout::InProgress => "IN_PROGRESS",
            Rollout::Completed => "COMPLETED",
            Rollout::Failed => "FAILED",
        }
    }
}

/// A line of a service's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceEvent {
    /// A UUID.
    pub id: String,
    /// When.
    pub at_ms: TimeMs,
    /// `(service web) has reached a steady state.`
    pub message: String,
}

impl Service {
    /// The record key: `account/region/cluster/name`.
    pub fn key_of(scope: &Scope, cluster: &str, name: &str) -> String {
        scope.key(&format!("{cluster}/{name}"))
    }

    /// `arn:aws:ecs:…:service/cluster/name`.
    pub fn arn(&self) -> String {
        self.scope.arn("ecs", &format!("service/{}/{}", self.cluster, self.name))
    }

    /// The deployment being rolled out, or the one that runs.
    pub fn primary(&self) -> Option<&Deployment> {
        self.deployments.iter().find(|d| d.primary)
    }
}

impl Record for Service {
    const TABLE: u8 = 4;
    fn key(&self) -> String {
        Self::key_of(&self.scope, &self.cluster, &self.name)
    }
}

/// What a service was at one deployment (ECS "service revision").
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceRevision {
    /// The service's key.
    pub service: String,
    /// 19 digits.
    pub id: String,
    /// What it rolled out.
    pub template: ServiceTemplate,
    /// When it was made.
    pub created_at_ms: TimeMs,
    /// What its tags stand for, by container: the digest that the first task which has pulled the image found. Later
    /// tasks pull that. Writer: the service controller.
    #[serde(default)]
    pub images: BTreeMap<String, String>,
    /// The deployment as it was when the service was done with it, to be told of.
    pub past: Option<Deployment>,
}

impl Record for ServiceRevision {
    const TABLE: u8 = 5;
    fn key(&self) -> String {
        format!("{}/{}", self.service, self.id)
    }
}

/// An ECS account setting of a principal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AccountSetting {
    /// Account and region.
    pub scope: Scope,
    /// The principal's ARN, or the account root's for the default.
    pub principal: String,
    /// The setting's name.
    pub name: String,
    /// Its value.
    pub value: String,
}

impl Record for AccountSetting {
    const TABLE: u8 = 6;
    fn key(&self) -> String {
        self.scope.key(&format!("{}/{}", self.principal, self.name))
    }
}
