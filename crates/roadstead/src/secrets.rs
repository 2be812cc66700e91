//! Who may call: the default credentials, temporary credentials and registry passwords.
//!
//! What is given out is not stored: a token carries what it is for, sealed with the key of this data directory, so it
//! outlives a restart and costs nothing to keep.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use aws::{Caller, Secrets};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use state::{Scope, TimeMs};

/// The access key and secret accepted on a loopback address without set-up, as the field's emulators do.
pub const DEFAULT_KEY: &str = "test";

/// The key of this data directory and what it vouches for.
pub struct Keyring {
    key: [u8; 32],
    /// Whose account the default credentials are of.
    pub account: String,
    /// The key pair of the account's root where the default credentials are not accepted: access key, secret key.
    pub root: Option<(String, String)>,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Claim {
    /// The account.
    pub account: String,
    /// The region.
    pub region: String,
    /// The principal's ARN.
    pub arn: String,
    /// The access key that it was issued with or for.
    pub access_key: String,
    /// Not good from then on.
    pub expires_ms: TimeMs,
}

/// A known access key.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownKey {
    /// The secret that signs.
    pub secret: String,
    /// The account it is of.
    pub account: String,
    /// The principal's ARN.
    pub arn: String,
    /// When it ends, for temporary ones.
    pub expires_ms: Option<TimeMs>,
}

impl Keyring {
    /// Reads the key of a data directory, making it on first use.
    pub fn open(data_dir: &Path, account: &str, loopback: bool) -> std::io::Result<Keyring> {
        let key = load_or_create(&data_dir.join("secret.key"))?;
        let mut ring = Keyring { key, account: account.to_owned(), root: None };
        if !loopback {
            // Derived, so that it is the same at every start and kept nowhere else.
            let access = format!("AKIA{}", &ring.letters("root access key")[..16]);
            let secret = STANDARD.encode(ring.seal(b"root secret key"))[..40].to_owned();
            ring.root = Some((access, secret));
        }
        Ok(ring)
    }

    /// The key behind an access key, given the session token sent with it. `Err` says that the token is invalid.
    pub fn lookup(&self, access_key: &str, session_token: Option<&str>) -> Result<Option<KnownKey>, ()> {
        if let Some(token) = session_token {
            let claim = self.open_claim(token).filter(|c| c.access_key == access_key).ok_or(())?;
            let secret = self.secret_of(access_key);
            let expires_ms = Some(claim.expires_ms);
            return Ok(Some(KnownKey { secret, account: claim.account, arn: claim.arn, expires_ms }));
        }
        let of_root = |account: &str, secret: &str| KnownKey {
            secret: secret.to_owned(),
            account: account.to_owned(),
            arn: format!("arn:aws:iam::{account}:root"),
            expires_ms: None,
        };
        if let Some((access, secret)) = &self.root {
            return Ok((access == access_key).then(|| of_root(&self.account, secret)));
        }
        let twelve_digits = access_key.len() == 12 && access_key.bytes().all(|b| b.is_ascii_digit());
        Ok(match access_key {
            DEFAULT_KEY => Some(of_root(&self.account, DEFAULT_KEY)),
            account if twelve_digits => Some(of_root(account, DEFAULT_KEY)),
            _ => None,
        })
    }

    /// What a registry password stands for; `None` if it is not ours or over.
    pub fn registry_claim(&self, password: &str, now_ms: TimeMs) -> Option<Claim> {
        self.open_claim(password).filter(|claim| claim.expires_ms > now_ms && claim.access_key.is_empty())
    }

    /// What `roadstead down` shows to the server to be heard.
    pub fn control_token(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.seal(b"control token"))
    }

    fn secret_of(&self, access_key: &str) -> String {
        STANDARD.encode(self.seal(format!("secret of {access_key}").as_bytes()))[..40].to_owned()
    }

    fn seal(&self, text: &[u8]) -> Vec<u8> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any key length will do");
        mac.update(text);
        mac.finalize().into_bytes().to_vec()
    }

    fn letters(&self, text: &str) -> String {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
        self.seal(text.as_bytes()).iter().map(|b| ALPHABET[usize::from(b % 32)] as char).collect()
    }

    fn sealed(&self, claim: &Claim) -> String {
        let body = URL_SAFE_NO_PAD.encode(serde_json::to_vec(claim).expect("plain data"));
        let seal = URL_SAFE_NO_PAD.encode(self.seal(body.as_bytes()));
        format!("{body}.{seal}")
    }

    fn open_claim(&self, token: &str) -> Option<Claim> {
        let (body, seal) = token.split_once('.')?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("any key length will do");
        mac.update(body.as_bytes());
        // Constant-time comparison.
        mac.verify_slice(&URL_SAFE_NO_PAD.decode(seal).ok()?).ok()?;
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).ok()?).ok()
    }
}

impl Secrets for Keyring {
    fn issue(&self, caller_arn: &str, scope: &Scope, expires_ms: TimeMs) -> (String, String, String) {
        let access_key = format!("ASIA{}", &self.letters(&random_hex())[..16]);
        let token = self.sealed(&Claim {
            account: scope.account.clone(),
            region: scope.region.clone(),
            arn: caller_arn.to_owned(),
            access_key: access_key.clone(),
            expires_ms,
        });
        let secret = self.secret_of(&access_key);
        (access_key, secret, token)
    }

    fn registry_token(&self, caller: &Caller, expires_ms: TimeMs) -> String {
        self.sealed(&Claim {
            account: caller.scope.account.clone(),
            region: caller.scope.region.clone(),
            arn: caller.arn.clone(),
            access_key: String::new(),
            expires_ms,
        })
    }
}

/// 64 random hexadecimal digits from the operating system.
pub fn random_hex() -> String {
    let mut bytes = [0u8; 32];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// A random seed for ids.
pub fn random_seed() -> u64 {
    let mut bytes = [0u8; 8];
    getrandom::fill(&mut bytes).expect("the operating system gives randomness");
    u64::from_le_bytes(bytes)
}

fn load_or_create(path: &Path) -> std::io::Result<[u8; 32]> {
    match std::fs::read(path) {
        Ok(bytes) => bytes.try_into().map_err(|_| {
            let text = format!("{} is damaged: it should hold 32 bytes", path.display());
            std::io::Error::new(std::io::ErrorKind::InvalidData, text)
        }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let mut key = [0u8; 32];
            getrandom::fill(&mut key).map_err(std::io::Error::other)?;
            let temporary = path.with_extension("new");
            let mut file = std::fs::OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(&temporary)?;
            file.write_all(&key)?;
            file.sync_all()?;
            std::fs::rename(&temporary, path)?;
            Ok(key)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring(loopback: bool) -> (tempfile::TempDir, Keyring) {
        let dir = tempfile::tempdir().unwrap();
        let ring = Keyring::open(dir.path(), "000000000000", loopback).unwrap();
        (dir, ring)
    }

    #[test]
    fn default_keys_are_of_loopback_alone() {
        let (_dir, ring) = ring(true);
        assert_eq!(ring.lookup("test", None).unwrap().unwrap().account, "000000000000");
        assert_eq!(ring.lookup("123456789012", None).unwrap().unwrap().account, "123456789012");
        assert_eq!(ring.lookup("AKIAOTHER", None), Ok(None));
    }

    #[test]
    fn elsewhere_the_root_key_is_required_and_stays_the_same() {
        let (dir, ring) = ring(false);
        let (access, secret) = ring.root.clone().unwrap();
        assert_eq!(ring.lookup("test", None), Ok(None));
        assert_eq!(ring.lookup(&access, None).unwrap().unwrap().secret, secret);
        assert_eq!(Keyring::open(dir.path(), "000000000000", false).unwrap().root, ring.root);
    }

    #[test]
    fn temporary_keys_need_their_own_token() {
        let (_dir, ring) = ring(true);
        let scope = Scope::new("000000000000", "us-east-1");
        let (access, secret, token) = ring.issue("arn:aws:sts::000000000000:assumed-role/r/s", &scope, 10);
        let known = ring.lookup(&access, Some(&token)).unwrap().unwrap();
        assert_eq!((known.secret, known.expires_ms), (secret, Some(10)));
        assert_eq!(ring.lookup("ASIAOTHER", Some(&token)), Err(()));
        assert_eq!(ring.lookup(&access, Some("x.y")), Err(()));
        assert_eq!(ring.registry_claim(&token, 0), None, "a session token is no registry password");
    }

    #[test]
    fn registry_passwords_end() {
        let (_dir, ring) = ring(true);
        let scope = Scope::new("000000000000", "eu-west-1");
        let caller = Caller { scope, arn: "a".into(), user_id: "u".into(), access_key: "test".into() };
        let password = ring.registry_token(&caller, 100);
        assert_eq!(ring.registry_claim(&password, 99).unwrap().region, "eu-west-1");
        assert_eq!(ring.registry_claim(&password, 100), None);
    }
}
