//! The registry itself: who it is, and tokens to log in with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use wire::Fault;
use wire::shapes::ecr as shapes;

use super::faults::own_registry;
use crate::Call;

/// How long a token is good for ("GetAuthorizationToken", ECR API reference).
const TOKEN_MS: i64 = 12 * 3600 * 1000;

/// DescribeRegistry. Replication is not offered, so there are no rules.
pub(super) fn describe(
    call: &mut Call<'_>,
    _input: shapes::DescribeRegistryRequest,
) -> Result<shapes::DescribeRegistryResponse, Fault> {
    Ok(shapes::DescribeRegistryResponse {
        registry_id: Some(call.scope().account.clone()),
        replication_configuration: Some(shapes::ReplicationConfiguration { rules: Some(Vec::new()) }),
    })
}

/// GetAuthorizationToken: `docker login --username AWS --password <token>`.
pub(super) fn authorization_token(
    call: &mut Call<'_>,
    input: shapes::GetAuthorizationTokenRequest,
) -> Result<shapes::GetAuthorizationTokenResponse, Fault> {
    let registries = input.registry_ids.unwrap_or_default();
    for registry in &registries {
        own_registry(call, Some(registry), "GetAuthorizationToken")?;
    }
    let expires_at_ms = call.now_ms + TOKEN_MS;
    let password = call.secrets.registry_token(call.caller, expires_at_ms);
    let one = shapes::AuthorizationData {
        authorization_token: Some(STANDARD.encode(format!("AWS:{password}"))),
        expires_at: Some(expires_at_ms),
        proxy_endpoint: Some(format!("http://{}", call.site.registry_host)),
    };
    Ok(shapes::GetAuthorizationTokenResponse { authorization_data: Some(vec![one]) })
}
