//! Stickiness cookies: which target or group a cookie names, and the cookies that say so
//! (ELB document "Sticky sessions for your Application Load Balancer").

use super::date::http_date;
use super::fields::{self, Field};

/// Cookie of duration-based stickiness.
pub const LB_COOKIE: &str = "AWSALB";
/// The same for cross-origin requests.
pub const LB_COOKIE_CORS: &str = "AWSALBCORS";
/// Cookie that accompanies an application's own.
pub const APP_COOKIE: &str = "AWSALBAPP-0";
/// Cookie of target group stickiness.
pub const GROUP_COOKIE: &str = "AWSALBTG";
/// The same for cross-origin requests.
pub const GROUP_COOKIE_CORS: &str = "AWSALBTGCORS";

/// The opaque value by which cookies name a thing (a target, a target group). The same after a restart, so that
/// sessions outlive the balancer. Not a secret: a client that forges one only chooses its own target.
pub fn token(parts: &[&str]) -> String {
    const OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
    let fnv = |seed: u64| {
        parts
            .iter()
            .flat_map(|part| part.bytes().chain([0]))
            .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    };
    format!("{:016x}{:016x}", fnv(OFFSET), fnv(OFFSET.rotate_left(17)))
}

/// The value of a cookie in a request.
pub fn cookie<'a>(fields: &'a [Field<'a>], name: &str) -> Option<&'a str> {
    fields::values(fields, "cookie")
        .flat_map(|line| line.split(';'))
        .find_map(|pair| pair.trim().split_once('=').filter(|(key, _)| *key == name).map(|(_, value)| value))
}

/// Whether a response sets a cookie of this name.
pub fn sets_cookie(fields: &[Field<'_>], name: &str) -> bool {
    fields::values(fields, "set-cookie")
        .any(|line| line.split_once('=').is_some_and(|(key, _)| key.trim() == name))
}

/// A `Set-Cookie` value that expires `duration_s` after `now_s` (seconds since the Unix epoch).
pub fn set_cookie(name: &str, token: &str, now_s: i64, duration_s: u32) -> String {
    let same_site = if name.ends_with("CORS") { "; SameSite=None" } else { "" };
    format!("{name}={token}; Expires={}; Path=/{same_site}", http_date(now_s + i64::from(duration_s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cookies_are_found_among_others() {
        let field = |name, value: &'static str| Field { name, value: value.as_bytes() };
        let headers = [
            field("Cookie", "a=1; AWSALB=first; b=2"),
            field("cookie", "AWSALBTG=x=y"),
            field("Set-Cookie", "sid=1; Path=/"),
        ];
        assert_eq!(cookie(&headers, LB_COOKIE), Some("first"));
        assert_eq!(cookie(&headers, GROUP_COOKIE), Some("x=y"));
        assert_eq!(cookie(&headers, "ALB"), None);
        assert!(sets_cookie(&headers, "sid") && !sets_cookie(&headers, "Path"));
    }

    #[test]
    fn cookies_are_written() {
        let text = set_cookie(LB_COOKIE_CORS, "t", 0, 60);
        assert_eq!(text, "AWSALBCORS=t; Expires=Thu, 01 Jan 1970 00:01:00 GMT; Path=/; SameSite=None");
    }

    #[test]
    fn tokens_differ_by_part() {
        let all =
            [token(&["a", "b"]), token(&["ab", ""]), token(&["ab"]), token(&["a", "c"]), token(&["b", "a"])];
        for (i, one) in all.iter().enumerate() {
            assert_eq!(one.len(), 32);
            assert!(all[i + 1..].iter().all(|other| other != one));
        }
    }
}
