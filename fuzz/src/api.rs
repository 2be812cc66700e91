//! Whole requests to the one endpoint: routed, read, validated, handled and answered, as `roadstead` does.

use aws::testing::World;
use wire::{Fault, Route, Value};

use crate::http_text::{header, request};
use crate::world;

/// Between requests of one input (the ASCII record separator).
const SEPARATOR: u8 = 0x1e;
/// More requests of one input are not looked at.
const REQUESTS_MAX: usize = 8;

/// Takes requests as a client sends them, one after another. Every one is answered as its protocol says.
pub fn requests(bytes: &[u8]) {
    statuses(bytes);
}

fn statuses(bytes: &[u8]) -> Vec<u16> {
    let mut world = world::new();
    let mut all = Vec::new();
    for one in bytes.split(|byte| *byte == SEPARATOR).take(REQUESTS_MAX) {
        let Some((parts, body)) = request(one) else { continue };
        let body = std::str::from_utf8(&body).map(|text| world::named(&world, text).into()).unwrap_or(body);
        let answer = match wire::route(&parts, &body) {
            Err(unrouted) => unrouted.answer("id"),
            Ok(route) => {
                let result =
                    route.read(&parts, &body).and_then(|input| handle(&mut world, &route, input.value));
                route.answer(&result, "id")
            }
        };
        let status = answer.status().as_u16();
        assert!((200..600).contains(&status));
        all.push(status);
        let is_json =
            answer.headers().get("content-type").is_some_and(|kind| kind.as_bytes().ends_with(b"json"));
        if is_json {
            let read = serde_json::from_slice::<serde_json::Value>(answer.body());
            assert!(read.is_ok(), "{}", String::from_utf8_lossy(answer.body()));
        }
        wire::service_of(&parts);
    }
    all
}

fn handle(world: &mut World, route: &Route, input: Value) -> Result<Value, Fault> {
    let answer = world.handle(&route.model.name, &route.operation.name, input);
    if let Err(fault) = &answer {
        let is_internal = fault.http_status.is_some_and(|status| status >= 500);
        assert!(!is_internal, "{} fails: {fault}", route.operation.name);
    }
    answer
}

/// Whether a request is taken to come from this machine: only if it names nothing else.
pub fn origin(bytes: &[u8]) {
    let Some((parts, _)) = request(bytes) else { return };
    if !wire::origin::is_of_this_machine(&parts.headers, &parts.uri) {
        return;
    }
    assert!(header(&parts, "origin").is_none() && header(&parts, "referer").is_none());
    let authority =
        header(&parts, "host").or_else(|| parts.uri.authority().map(http::uri::Authority::as_str));
    let authority = authority.expect("a request without a host names nothing").to_ascii_lowercase();
    let port_at = authority.rfind(':').filter(|at| authority[at + 1..].bytes().all(|b| b.is_ascii_digit()));
    let host = &authority[..port_at.unwrap_or(authority.len())];
    let is_own = ["localhost", "data-localhost", "[::1]"].contains(&host)
        || (host.ends_with(".localhost") && !host.contains(['@', ':', '/', '[']))
        || host.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        || host.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>().is_ok_and(|a| a.is_loopback());
    assert!(is_own, "{authority} is taken to be this machine");
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_seed_that_pushes_an_image_is_not_refused() {
        assert_eq!(super::statuses(include_bytes!("../seeds/api/written-00")), [200; 8]);
    }
}
