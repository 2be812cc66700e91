//! Operations: what calls started. Everything is done at once, so every operation has succeeded.

use std::sync::Arc;

use state::cloudmap::Operation;
use wire::Fault;
use wire::shapes::servicediscovery as shape;

use super::{filters, page, refuse};
use crate::Call;

/// Writes an operation down; its id.
pub(super) fn done(call: &mut Call<'_>, kind: &str, targets: &[(&str, &str)]) -> String {
    let id = format!("{}-{}", call.ids.alphanumeric(32), call.ids.alphanumeric(8));
    call.tx.put(Operation {
        scope: call.caller.scope.clone(),
        id: id.clone(),
        kind: kind.to_owned(),
        targets: targets.iter().map(|(kind, id)| ((*kind).to_owned(), (*id).to_owned())).collect(),
        at_ms: call.now_ms,
    });
    id
}

pub(super) fn get(
    call: &mut Call<'_>,
    input: shape::GetOperationRequest,
) -> Result<shape::GetOperationResponse, Fault> {
    refuse(&input.owner_account, "OwnerAccount")?;
    let id = input.operation_id.unwrap_or_default();
    let operation = call
        .tx
        .get::<Operation>(&call.scope().key(&id))
        .ok_or_else(|| Fault::new("OperationNotFound", format!("Operation with id {id} was not found.")))?;
    Ok(shape::GetOperationResponse {
        operation: Some(shape::Operation {
            id: Some(operation.id.clone()),
            owner_account: Some(operation.scope.account.clone()),
            r#type: Some(operation.kind.clone()),
            status: Some("SUCCESS".into()),
            create_date: Some(operation.at_ms),
            update_date: Some(operation.at_ms),
            targets: Some(operation.targets.iter().cloned().collect()),
            ..Default::default()
        }),
    })
}

pub(super) fn list(
    call: &mut Call<'_>,
    input: shape::ListOperationsRequest,
) -> Result<shape::ListOperationsResponse, Fault> {
    let wanted = input.filters.unwrap_or_default();
    let wanted: Vec<_> = wanted.into_iter().map(|f| (f.name, f.values, f.condition)).collect();
    let target = |operation: &Operation, kind: &str| {
        operation.targets.iter().find(|(name, _)| name == kind).map(|(_, id)| id.clone())
    };
    let mut found: Vec<Arc<Operation>> = Vec::new();
    for (_, operation) in call.tx.table::<Operation>().scan(&call.scope().prefix()) {
        let matches = filters::matches(&wanted, |name| match name {
            "NAMESPACE_ID" => Some(target(operation, "NAMESPACE")),
            "SERVICE_ID" => Some(target(operation, "SERVICE")),
            "STATUS" => Some(Some("SUCCESS".into())),
            "TYPE" => Some(Some(operation.kind.clone())),
            "UPDATE_DATE" => Some(Some((operation.at_ms / 1000).to_string())),
            _ => None,
        })?;
        if matches {
            found.push(operation.clone());
        }
    }
    let (items, next_token) = page(&input.next_token, input.max_results)?.take(found, |o| o.id.clone());
    let summary = |operation: &Arc<Operation>| shape::OperationSummary {
        id: Some(operation.id.clone()),
        status: Some("SUCCESS".into()),
    };
    Ok(shape::ListOperationsResponse { operations: Some(items.iter().map(summary).collect()), next_token })
}
