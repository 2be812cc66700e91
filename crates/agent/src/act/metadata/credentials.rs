//! Credentials of tasks' roles, as containers get them ("Task IAM role", ECS developer guide).

use state::TimeMs;

use super::time::rfc3339;

/// Temporary credentials of a role.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// `ASIA…`.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
    /// The session token.
    pub token: String,
    /// When they are over.
    pub expires_at_ms: TimeMs,
}

/// Issues credentials for the tasks of this node, and for no others.
pub trait CredentialSource: Send + Sync {
    /// Temporary credentials of a task's role. May block.
    ///
    /// # Errors
    /// Why there are none, for people.
    fn issue(
        &self,
        role_arn: &str,
        session_name: &str,
        account: &str,
        region: &str,
    ) -> Result<Credentials, String>;
}

/// SDKs ask for new ones some minutes before the end: what is handed out must be good for longer.
const LEFT_MS_MIN: i64 = 15 * 60 * 1000;

impl Credentials {
    /// Whether they can still be handed out.
    pub fn good_at(&self, now_ms: TimeMs) -> bool {
        self.expires_at_ms - now_ms > LEFT_MS_MIN
    }

    /// The document that containers get.
    pub fn document(&self, role_arn: &str) -> serde_json::Value {
        serde_json::json!({
            "RoleArn": role_arn,
            "AccessKeyId": self.access_key_id,
            "SecretAccessKey": self.secret_access_key,
            "Token": self.token,
            "Expiration": rfc3339(self.expires_at_ms / 1000 * 1000),
        })
    }
}

impl std::fmt::Debug for Credentials {
    /// Without the secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, until {})", self.access_key_id, self.expires_at_ms)
    }
}
