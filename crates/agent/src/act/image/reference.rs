//! Image references as Docker reads them: `nginx`, `localhost:4566/app:1`, `repo@sha256:…`.

/// Docker Hub, which a reference without a host is of.
const HUB: &str = "docker.io";

/// A reference, with what it leaves out filled in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reference {
    /// Host name and port of the registry.
    pub domain: String,
    /// The repository.
    pub repository: String,
    /// The tag; `latest` if neither tag nor digest is given.
    pub tag: Option<String>,
    /// The digest.
    pub digest: Option<String>,
}

impl Reference {
    /// Reads a reference.
    ///
    /// # Errors
    /// Docker's words for what is not one.
    pub fn parse(text: &str) -> Result<Reference, String> {
        let invalid = || format!("invalid reference format: {text:?}");
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(digest.to_owned())),
            None => (text, None),
        };
        if digest.as_deref().is_some_and(|d| !is_digest(d)) {
            return Err(invalid());
        }
        // A colon after the last slash begins a tag; one before it a port.
        let slash = name.rfind('/').map_or(0, |at| at + 1);
        let (name, tag) = match name[slash..].find(':') {
            Some(colon) => (&name[..slash + colon], Some(name[slash + colon + 1..].to_owned())),
            None => (name, None),
        };
        if tag.as_deref().is_some_and(|t| !is_tag(t)) {
            return Err(invalid());
        }
        let (domain, rest) = match name.split_once('/') {
            Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" => (first, rest),
            _ => (HUB, name),
        };
        let domain = if domain == "index.docker.io" { HUB } else { domain };
        // Docker Hub's images of one word are in a folder of its own.
        let is_of_hub_itself = domain == HUB && !rest.contains('/');
        let repository = if is_of_hub_itself { format!("library/{rest}") } else { rest.to_owned() };
        if !is_domain(domain) {
            return Err(invalid());
        }
        if !is_repository(&repository) {
            return Err(if repository.chars().any(|c| c.is_ascii_uppercase()) {
                format!("invalid reference format: repository name ({repository}) must be lowercase")
            } else {
                invalid()
            });
        }
        let tag = if tag.is_none() && digest.is_none() { Some("latest".into()) } else { tag };
        Ok(Reference { domain: domain.to_owned(), repository, tag, digest })
    }

    /// What selects the manifest: the digest if there is one, else the tag.
    pub fn selector(&self) -> &str {
        self.digest.as_deref().or(self.tag.as_deref()).unwrap_or("latest")
    }

    /// Account and region of an ECR host name (`<account>.dkr.ecr.<region>.<domain>`).
    pub fn ecr_account_and_region(&self) -> Option<(&str, &str)> {
        let (account, rest) = self.domain.split_once('.')?;
        let (region, _) = rest.strip_prefix("dkr.ecr.")?.split_once('.')?;
        let digits = account.len() == 12 && account.bytes().all(|b| b.is_ascii_digit());
        (digits && !region.is_empty()).then_some((account, region))
    }
}

impl std::fmt::Display for Reference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.domain, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(|hex| {
        hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    let bytes = text.as_bytes();
    !bytes.is_empty()
        && bytes.len() <= 128
        && word(bytes[0])
        && bytes.iter().all(|b| word(*b) || *b == b'.' || *b == b'-')
}

/// A host as Docker's grammar has it: names of letters, digits and dashes, or an IPv6 address in brackets; and a port.
/// It becomes part of a URL: nothing in it may mean something there.
fn is_domain(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else { return false };
            if address.parse::<std::net::Ipv6Addr>().is_err() {
                return false;
            }
            ("", after)
        }
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let label = |label: &str| {
        let bytes = label.as_bytes();
        edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    };
    let is_port = |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    (text.starts_with('[') || host.split('.').all(label))
        && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
}

fn is_repository(text: &str) -> bool {
    let part = |part: &str| {
        let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        let inner = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"._-".contains(b);
        edge(part.as_bytes().first()) && edge(part.as_bytes().last()) && part.as_bytes().iter().all(inner)
    };
    // What ECR allows; Docker allows one less.
    text.len() <= 256 && text.split('/').all(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_docker_reads_them() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let with_digest = format!("app@{digest}");
        let both = format!("localhost:4566/team/app:v1@{digest}");
        let cases = [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".into()),
            ("bitnami/redis", "docker.io/bitnami/redis:latest".into()),
            ("docker.io/nginx", "docker.io/library/nginx:latest".into()),
            ("index.docker.io/nginx:1.27", "docker.io/library/nginx:1.27".into()),
            ("docker.io/bitnami/redis", "docker.io/bitnami/redis:latest".into()),
            ("localhost:4566/app:1", "localhost:4566/app:1".into()),
            ("localhost/app", "localhost/app:latest".into()),
            ("public.ecr.aws/x/y:z", "public.ecr.aws/x/y:z".into()),
            ("[::1]:5000/app", "[::1]:5000/app:latest".into()),
            (with_digest.as_str(), format!("docker.io/library/app@{digest}")),
            (both.as_str(), both.clone()),
        ];
        for (text, want) in cases {
            assert_eq!(Reference::parse(text).map(|r| r.to_string()), Ok(want), "{text}");
        }
        for bad in ["", "App", "a b", "a:", "a:-x", "a@sha256:1", "/a", "a//b", "a/../b", "-a"] {
            assert!(Reference::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_ecr_calls_a_repository_can_be_pulled() {
        let longest = format!("localhost:4566/{}", "a".repeat(256));
        assert!(Reference::parse(&longest).is_ok());
        assert!(Reference::parse(&format!("{longest}a")).is_err());
    }

    #[test]
    fn a_host_is_nothing_but_a_host() {
        for bad in [
            "a.b?c=", "a.b#", "a_b.c", "a b.c", "a..b", "-a.b", "a.b:", "a.b:x", ":80", "[::1", "[x]",
            "a.b\\", "é.b", "[", "[a", "[a b=.c",
        ] {
            let text = format!("{bad}/app");
            assert!(Reference::parse(&text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn ecr_names_tell_account_and_region() {
        let name = Reference::parse("123456789012.dkr.ecr.eu-west-1.amazonaws.com/app:1").unwrap();
        assert_eq!(name.ecr_account_and_region(), Some(("123456789012", "eu-west-1")));
        let other = Reference::parse("12.dkr.ecr.eu-west-1.amazonaws.com/app:1").unwrap();
        assert_eq!(other.ecr_account_and_region(), None);
    }
}
