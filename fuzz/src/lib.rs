//! Fuzz targets: a function for everything that reads what comes from the network, and for what it becomes on disk.
//!
//! A target takes any bytes, and panics when a promise is broken: besides not to panic, that what is read and written
//! again reads the same, that two readers agree, that nothing is accepted which must not be. `cargo xtask fuzz` drives
//! them by libFuzzer; `cargo test -p fuzz` runs every seed and a few thousand mutations of them. See `README.md`.

mod api;
mod balancer;
mod dns;
mod forms;
mod http_text;
mod images;
mod layer;
mod log;
mod protocols;
mod registry;
mod sigv4;
mod wildcards;
mod world;

/// A parser with its promises.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The folder of its seeds.
    pub name: &'static str,
    /// Takes any bytes.
    pub run: fn(&[u8]),
    /// Mutations in `cargo test`: fewer for those that touch files.
    pub mutations: usize,
}

/// All of them, in the order in which they are run.
pub const TARGETS: &[Target] = &[
    Target { name: "sigv4", run: sigv4::verify, mutations: 1500 },
    Target { name: "json", run: protocols::json, mutations: 3000 },
    Target { name: "query", run: protocols::query, mutations: 3000 },
    Target { name: "ec2", run: protocols::ec2, mutations: 3000 },
    Target { name: "cbor", run: protocols::cbor, mutations: 3000 },
    Target { name: "rest_json", run: protocols::rest_json, mutations: 3000 },
    Target { name: "api", run: api::requests, mutations: 1500 },
    Target { name: "origin", run: api::origin, mutations: 3000 },
    Target { name: "registry_route", run: registry::route, mutations: 3000 },
    Target { name: "registry", run: registry::answer, mutations: 300 },
    Target { name: "manifest", run: images::manifest, mutations: 3000 },
    Target { name: "image_config", run: images::config, mutations: 3000 },
    Target { name: "layer", run: layer::unpack, mutations: 300 },
    Target { name: "http_request", run: balancer::request, mutations: 3000 },
    Target { name: "http_response", run: balancer::response, mutations: 3000 },
    Target { name: "chunked", run: balancer::chunked, mutations: 3000 },
    Target { name: "rules", run: balancer::rules, mutations: 3000 },
    Target { name: "pattern", run: balancer::pattern, mutations: 3000 },
    Target { name: "dns", run: dns::query, mutations: 3000 },
    Target { name: "forms", run: forms::any, mutations: 5000 },
    Target { name: "log_tail", run: log::damage, mutations: 150 },
    Target { name: "log_frame", run: log::frame, mutations: 150 },
];

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// A generator for a target's own choices: the same for the same bytes.
struct Choices(u64);

impl Choices {
    /// FNV-1a of the bytes.
    fn of(bytes: &[u8]) -> Choices {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        Choices(bytes.iter().fold(0xcbf2_9ce4_8422_2325, step) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below the limit; 0 when there is none.
    fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 16) as usize % limit.max(1)
    }
}
