//! `/etc/hosts`, `/etc/resolv.conf` and the host name that containers see.

use std::net::Ipv4Addr;

use state::group::ContainerSpec;

/// The domain of a region's private host names.
pub fn internal_domain(region: &str) -> String {
    match region {
        "us-east-1" => "ec2.internal".into(),
        other => format!("{other}.compute.internal"),
    }
}

/// The private host name of an address: `ip-172-31-0-5.ec2.internal`.
pub fn host_name(address: Ipv4Addr, region: &str) -> String {
    let [a, b, c, d] = address.octets();
    format!("ip-{a}-{b}-{c}-{d}.{}", internal_domain(region))
}

/// A container's name servers: those its definition names, else ours.
pub fn resolv_conf(spec: &ContainerSpec, server: Ipv4Addr, search: &str) -> String {
    let mut text = String::new();
    let search = match spec.dns_search_domains.as_slice() {
        [] => search.to_owned(),
        domains => domains.join(" "),
    };
    if !search.is_empty() {
        text += &format!("search {search}\n");
    }
    if spec.dns_servers.is_empty() {
        text += &format!("nameserver {server}\n");
    }
    for server in &spec.dns_servers {
        text += &format!("nameserver {server}\n");
    }
    text
}

/// The search domains and options of the host's own `resolv.conf`, to be kept beside our name server.
pub fn host_search_and_options(host: &str) -> (String, String) {
    let lines = |keys: &[&str]| -> Vec<&str> {
        host.lines().filter(|l| l.split_whitespace().next().is_some_and(|w| keys.contains(&w))).collect()
    };
    let search = lines(&["search", "domain"])
        .last()
        .map_or(String::new(), |line| line.split_whitespace().skip(1).collect::<Vec<_>>().join(" "));
    let options = lines(&["options"]).iter().map(|l| format!("{l}\n")).collect();
    (search, options)
}

/// A container's `/etc/hosts`. `own`: its address and names, if it has an interface.
pub fn hosts(spec: &ContainerSpec, own: Option<(Ipv4Addr, &str)>) -> String {
    let mut text = String::from("127.0.0.1 localhost\n");
    if let Some((address, name)) = own {
        text += &format!("{address} {name}\n");
    }
    for (name, address) in &spec.extra_hosts {
        text += &format!("{address} {name}\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_definition_replaces_servers_and_search_domains_each_on_its_own() {
        let server = Ipv4Addr::new(169, 254, 169, 253);
        let mut spec = ContainerSpec::default();
        assert_eq!(
            resolv_conf(&spec, server, "ec2.internal"),
            "search ec2.internal\nnameserver 169.254.169.253\n"
        );
        spec.dns_search_domains = vec!["a.example".into(), "b.example".into()];
        assert_eq!(
            resolv_conf(&spec, server, "x"),
            "search a.example b.example\nnameserver 169.254.169.253\n"
        );
        spec.dns_servers = vec!["1.1.1.1".into(), "9.9.9.9".into()];
        let expected = "search a.example b.example\nnameserver 1.1.1.1\nnameserver 9.9.9.9\n";
        assert_eq!(resolv_conf(&spec, server, ""), expected);
    }

    #[test]
    fn the_hosts_own_search_and_options_are_kept() {
        let host = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch corp.example lan\n";
        assert_eq!(
            host_search_and_options(host),
            ("corp.example lan".into(), "options edns0 trust-ad\n".into())
        );
        assert_eq!(host_search_and_options("nameserver ::1\n"), (String::new(), String::new()));
    }

    #[test]
    fn hosts_name_the_container_and_what_its_definition_adds() {
        let spec =
            ContainerSpec { extra_hosts: vec![("db".into(), "10.0.0.9".into())], ..ContainerSpec::default() };
        let own = Ipv4Addr::new(172, 31, 0, 10);
        let name = host_name(own, "eu-west-1");
        let expected =
            "127.0.0.1 localhost\n172.31.0.10 ip-172-31-0-10.eu-west-1.compute.internal\n10.0.0.9 db\n";
        assert_eq!(hosts(&spec, Some((own, &name))), expected);
    }
}
