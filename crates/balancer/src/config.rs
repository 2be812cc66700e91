//! What the balancer is told to be: plain data, translated by the control plane from its ELBv2 records.
//!
//! Names follow the Elastic Load Balancing API (version 2015-12-01). Every field here has an effect in the data
//! plane; what the data plane cannot do has no field, so that the control plane must refuse it.

use std::net::{IpAddr, SocketAddr};

/// The whole configuration. Applied atomically: a request sees either the old one or the new one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BalancerConfig {
    /// All application load balancers.
    pub load_balancers: Vec<LoadBalancer>,
    /// All target groups, used by a listener or not.
    pub target_groups: Vec<TargetGroup>,
}

/// One application load balancer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancer {
    /// Its ARN; names its counters.
    pub arn: String,
    /// The name by which the shared front sockets find it in the `Host` header.
    pub dns_name: String,
    /// Its own address; every listener binds `address:port`.
    pub address: IpAddr,
    /// Load balancer attributes.
    pub attributes: LoadBalancerAttributes,
    /// HTTP listeners, one per port.
    pub listeners: Vec<Listener>,
}

/// Load balancer attributes that change how requests are handled (ELB document "Load balancer attributes").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadBalancerAttributes {
    /// `idle_timeout.timeout_seconds`, in milliseconds.
    pub idle_timeout_ms: u64,
    /// `client_keep_alive.seconds`: a client connection older than this is closed after its next response.
    pub client_keep_alive_ms: u64,
    /// `routing.http.preserve_host_header.enabled`.
    pub preserve_host_header: bool,
    /// `routing.http.xff_header_processing.mode`.
    pub xff_header_processing: XffMode,
    /// `routing.http.xff_client_port.enabled`.
    pub xff_client_port: bool,
    /// `routing.http.drop_invalid_header_fields.enabled`.
    pub drop_invalid_header_fields: bool,
}

impl Default for LoadBalancerAttributes {
    fn default() -> Self {
        Self {
            idle_timeout_ms: 60_000,
            client_keep_alive_ms: 3_600_000,
            preserve_host_header: false,
            xff_header_processing: XffMode::Append,
            xff_client_port: false,
            drop_invalid_header_fields: false,
        }
    }
}

/// What happens to `X-Forwarded-For` (`routing.http.xff_header_processing.mode`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum XffMode {
    /// The client's address is appended to what the client sent.
    Append,
    /// What the client sent is passed on unchanged.
    Preserve,
    /// The header is removed.
    Remove,
}

/// One HTTP listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its ARN.
    pub arn: String,
    /// TCP port.
    pub port: u16,
    /// Rules other than the default one, in order of priority (lowest number first).
    pub rules: Vec<Rule>,
    /// The default rule's action.
    pub default_action: Action,
}

/// One listener rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its ARN.
    pub arn: String,
    /// All must hold.
    pub conditions: Vec<Condition>,
    /// What is done with a request for which they hold.
    pub action: Action,
}

/// One condition; any one of its values is enough (ELB document "Condition types for listener rules").
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// `path-pattern`: case-sensitive, wildcards `*` and `?`, the path without the query.
    PathPattern(Vec<String>),
    /// `host-header`: not case-sensitive, wildcards, without the port.
    HostHeader(Vec<String>),
    /// `http-header`: values not case-sensitive, wildcards.
    HttpHeader {
        /// Header name, not case-sensitive, no wildcards.
        name: String,
        /// Patterns.
        values: Vec<String>,
    },
    /// `http-request-method`: exact, case-sensitive, no wildcards.
    HttpRequestMethod(Vec<String>),
    /// `query-string`: not case-sensitive, wildcards, `\` escapes a wildcard.
    QueryString(Vec<QueryStringPair>),
    /// `source-ip`: the address of the connection, not of `X-Forwarded-For`.
    SourceIp(Vec<Cidr>),
}

/// One `query-string` value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryStringPair {
    /// Pattern for the key; absent: any key, or a parameter that has none.
    pub key: Option<String>,
    /// Pattern for the value.
    pub value: String,
}

/// An address block of a `source-ip` condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    address: IpAddr,
    prefix_bits: u8,
}

impl Cidr {
    /// Reads `10.0.0.0/8` or `2001:db8::/32`. Errors: not an address, no `/`, or more bits than the address has.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("'{text}' is not a CIDR block");
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let prefix_bits: u8 = bits.parse().map_err(|_| bad())?;
        let max = if address.is_ipv4() { 32 } else { 128 };
        if prefix_bits > max { Err(bad()) } else { Ok(Self { address, prefix_bits }) }
    }

    /// Whether the block holds the address. An IPv4-mapped IPv6 address counts as the IPv4 one.
    pub fn contains(&self, ip: IpAddr) -> bool {
        match (self.address, ip.to_canonical()) {
            (IpAddr::V4(net), IpAddr::V4(ip)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.prefix_bits)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            (IpAddr::V6(net), IpAddr::V6(ip)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.prefix_bits)).unwrap_or(0);
                net.to_bits() & mask == ip.to_bits() & mask
            }
            _ => false,
        }
    }
}

/// What a rule does with a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// To one of some target groups, by weight.
    Forward(Forward),
    /// Answered with a redirect.
    Redirect(Redirect),
    /// Answered with a fixed response.
    FixedResponse(FixedResponse),
}

/// The `forward` action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// Target groups with weights 0 to 999.
    pub target_groups: Vec<WeightedGroup>,
    /// Target group stickiness, in seconds; absent: off.
    pub stickiness_duration_s: Option<u32>,
}

/// One target group of a `forward` action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WeightedGroup {
    /// The target group's ARN.
    pub target_group: String,
    /// Its share; 0: no requests.
    pub weight: u32,
}

/// The `redirect` action; each part may hold `#{protocol}`, `#{host}`, `#{port}`, `#{path}`, `#{query}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `HTTP`, `HTTPS` or `#{protocol}`.
    pub protocol: String,
    /// Default `#{host}`.
    pub host: String,
    /// Default `#{port}`.
    pub port: String,
    /// Default `/#{path}`.
    pub path: String,
    /// Default `#{query}`, without the leading `?`.
    pub query: String,
    /// Permanent (301) or found (302).
    pub permanent: bool,
}

impl Default for Redirect {
    fn default() -> Self {
        Self {
            protocol: "#{protocol}".into(),
            host: "#{host}".into(),
            port: "#{port}".into(),
            path: "/#{path}".into(),
            query: "#{query}".into(),
            permanent: true,
        }
    }
}

/// The `fixed-response` action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedResponse {
    /// 2XX, 4XX or 5XX.
    pub status_code: u16,
    /// `text/plain`, `text/css`, `text/html`, `application/javascript` or `application/json`.
    pub content_type: Option<String>,
    /// The body.
    pub message_body: Option<String>,
}

/// One target group (HTTP, protocol version HTTP1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetGroup {
    /// Its ARN.
    pub arn: String,
    /// `load_balancing.algorithm.type`.
    pub algorithm: Algorithm,
    /// `stickiness.*`; absent: off.
    pub stickiness: Option<Stickiness>,
    /// `slow_start.duration_seconds`, in milliseconds; 0: off.
    pub slow_start_ms: u64,
    /// How targets are checked.
    pub health_check: HealthCheck,
    /// The registered and the draining targets.
    pub targets: Vec<Target>,
}

/// How a target is chosen among the healthy ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// In turn.
    RoundRobin,
    /// The one with the fewest requests in flight.
    LeastOutstandingRequests,
}

/// Session stickiness of a target group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stickiness {
    /// The balancer's own cookie `AWSALB`.
    LbCookie {
        /// `stickiness.lb_cookie.duration_seconds`.
        duration_s: u32,
    },
    /// A cookie of the application, which `AWSALBAPP-0` accompanies.
    AppCookie {
        /// `stickiness.app_cookie.cookie_name`.
        cookie_name: String,
        /// `stickiness.app_cookie.duration_seconds`.
        duration_s: u32,
    },
}

/// Health check settings of a target group (HTTP).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HealthCheck {
    /// Absent: `traffic-port`, the port that takes the requests.
    pub port: Option<u16>,
    /// Path with query.
    pub path: String,
    /// Time from the start of a check to the start of the next.
    pub interval_ms: u64,
    /// A check without an answer by then has failed.
    pub timeout_ms: u64,
    /// Successes in a row that make an unhealthy target healthy.
    pub healthy_threshold: u32,
    /// Failures in a row that make a target unhealthy.
    pub unhealthy_threshold: u32,
    /// The codes that count as success.
    pub matcher: Matcher,
}

impl Default for HealthCheck {
    fn default() -> Self {
        Self {
            port: None,
            path: "/".into(),
            interval_ms: 30_000,
            timeout_ms: 5_000,
            healthy_threshold: 5,
            unhealthy_threshold: 2,
            matcher: Matcher(vec![(200, 200)]),
        }
    }
}

/// Status codes that mean success: inclusive ranges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher(Vec<(u16, u16)>);

impl Matcher {
    /// Reads `200`, `200,202` or `200-299` (and mixtures). Errors: anything else, or a code outside 200 to 499.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("Health check matcher HTTP code '{text}' is not valid");
        let code = |part: &str| part.trim().parse::<u16>().ok().filter(|code| (200..=499).contains(code));
        text.split(',')
            .map(|part| {
                let (low, high) = part.split_once('-').unwrap_or((part, part));
                let range = (code(low).ok_or_else(bad)?, code(high).ok_or_else(bad)?);
                if range.0 <= range.1 { Ok(range) } else { Err(bad()) }
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Self)
    }

    /// Whether the code means success.
    pub fn matches(&self, code: u16) -> bool {
        self.0.iter().any(|(low, high)| (*low..=*high).contains(&code))
    }
}

/// One target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The id it was registered by (an address, or an instance id).
    pub id: String,
    /// Where it takes requests.
    pub address: IpAddr,
    /// The port it was registered with.
    pub port: u16,
    /// Deregistered, finishing what is in flight. Taken from the configuration when that is over.
    pub draining: bool,
}

impl Target {
    /// Where it takes requests.
    pub fn socket_addr(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidr_blocks() {
        let holds = |block: &str, ip: &str| Cidr::parse(block).unwrap().contains(ip.parse().unwrap());
        assert!(holds("10.0.0.0/8", "10.255.0.1"));
        assert!(!holds("10.0.0.0/8", "11.0.0.1"));
        assert!(holds("0.0.0.0/0", "203.0.113.9"));
        assert!(!holds("0.0.0.0/0", "2001:db8::1"));
        assert!(holds("192.0.2.7/32", "192.0.2.7") && !holds("192.0.2.7/32", "192.0.2.6"));
        assert!(holds("2001:db8::/32", "2001:db8:1::9") && !holds("2001:db8::/32", "2001:db9::"));
        assert!(holds("192.0.2.0/24", "::ffff:192.0.2.7"));
        for bad in ["10.0.0.0", "10.0.0.0/33", "x/8", "2001:db8::/129", "10.0.0.0/"] {
            assert!(Cidr::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn matchers() {
        let matches = |text: &str, code| Matcher::parse(text).unwrap().matches(code);
        assert!(matches("200", 200) && !matches("200", 201));
        assert!(matches("200,202", 202) && !matches("200,202", 201));
        assert!(matches("200-299,404", 250) && matches("200-299,404", 404) && !matches("200-299,404", 300));
        for bad in ["", "abc", "299-200", "200-", "99", "500", "200,,201"] {
            assert!(Matcher::parse(bad).is_err(), "{bad}");
        }
    }
}
