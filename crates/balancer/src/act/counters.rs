//! Counts for metrics, named after the CloudWatch metrics of Application Load Balancers. They only ever grow.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Live counts of one load balancer.
#[derive(Default)]
pub(crate) struct LoadBalancerCounters {
    pub requests: AtomicU64,
    pub new_connections: AtomicU64,
    pub processed_bytes: AtomicU64,
    pub fixed_responses: AtomicU64,
    pub redirects: AtomicU64,
    /// Responses made by the balancer itself, by hundreds of the status code.
    pub elb_codes: [AtomicU64; 6],
}

/// Live counts of one target group.
#[derive(Default)]
pub(crate) struct GroupCounters {
    pub requests: AtomicU64,
    pub target_codes: [AtomicU64; 6],
    pub connection_errors: AtomicU64,
    pub response_time_us: AtomicU64,
}

/// Adds one.
pub(crate) fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

/// Adds one to the class of a status code.
pub(crate) fn bump_code(codes: &[AtomicU64; 6], status: http::StatusCode) {
    if let Some(counter) = codes.get(usize::from(status.as_u16() / 100)) {
        bump(counter);
    }
}

/// All counts at one moment, since each record first appeared in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountersSnapshot {
    /// One per load balancer.
    pub load_balancers: Vec<LoadBalancerCounts>,
    /// One per target group.
    pub target_groups: Vec<GroupCounts>,
}

/// Counts of one load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadBalancerCounts {
    /// Load balancer ARN.
    pub arn: String,
    /// `RequestCount`.
    pub requests: u64,
    /// `NewConnectionCount`.
    pub new_connections: u64,
    /// `ProcessedBytes`: read from and written to clients.
    pub processed_bytes: u64,
    /// `HTTP_Fixed_Response_Count`.
    pub fixed_responses: u64,
    /// `HTTP_Redirect_Count`.
    pub redirects: u64,
    /// `HTTPCode_ELB_nXX_Count`, indexed by n.
    pub elb_codes: [u64; 6],
}

/// Counts of one target group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupCounts {
    /// Target group ARN.
    pub arn: String,
    /// Requests routed to its targets.
    pub requests: u64,
    /// `HTTPCode_Target_nXX_Count`, indexed by n.
    pub target_codes: [u64; 6],
    /// `TargetConnectionErrorCount`.
    pub connection_errors: u64,
    /// Sum of `TargetResponseTime`, in microseconds, over all requests that got a response.
    pub response_time_us: u64,
}

fn read(codes: &[AtomicU64; 6]) -> [u64; 6] {
    std::array::from_fn(|i| codes[i].load(Relaxed))
}

impl LoadBalancerCounters {
    pub(crate) fn snapshot(&self, arn: &str) -> LoadBalancerCounts {
        LoadBalancerCounts {
            arn: arn.to_owned(),
            requests: self.requests.load(Relaxed),
            new_connections: self.new_connections.load(Relaxed),
            processed_bytes: self.processed_bytes.load(Relaxed),
            fixed_responses: self.fixed_responses.load(Relaxed),
            redirects: self.redirects.load(Relaxed),
            elb_codes: read(&self.elb_codes),
        }
    }
}

impl GroupCounters {
    pub(crate) fn snapshot(&self, arn: &str) -> GroupCounts {
        GroupCounts {
            arn: arn.to_owned(),
            requests: self.requests.load(Relaxed),
            target_codes: read(&self.target_codes),
            connection_errors: self.connection_errors.load(Relaxed),
            response_time_us: self.response_time_us.load(Relaxed),
        }
    }
}
