//! The tables of operations: what is served, under which name.

use wire::{Fault, FromValue, IntoValue, Operation, Value};

use crate::Call;

/// A service and the operations of it that are served.
pub struct Service {
    /// The model's name: `ecs`, `elbv2`, …
    pub name: &'static str,
    /// Operation name and handler.
    pub operations: &'static [(&'static str, Handler)],
}

/// A handler behind its typed function.
pub type Handler = fn(&mut Call<'_>, Value) -> Result<Value, Fault>;

/// All services.
pub static SERVICES: &[&Service] = &[
    &crate::ecs::SERVICE,
    &crate::ecr::SERVICE,
    &crate::elbv2::SERVICE,
    &crate::logs::SERVICE,
    &crate::ec2::SERVICE,
    &crate::sts::SERVICE,
    &crate::iam::SERVICE,
    &crate::servicediscovery::SERVICE,
];

/// The handler of an operation, if it is served.
pub fn find(service: &str, operation: &str) -> Option<Handler> {
    let service = SERVICES.iter().find(|s| s.name == service)?;
    service.operations.iter().find(|(name, _)| *name == operation).map(|(_, handler)| *handler)
}

/// Reads the input, runs the typed handler, writes the output.
pub(crate) fn run<O: Operation>(
    call: &mut Call<'_>,
    input: Value,
    handler: impl FnOnce(&mut Call<'_>, O::Input) -> Result<O::Output, Fault>,
) -> Result<Value, Fault> {
    let input = O::Input::from_value(input);
    handler(call, input).map(IntoValue::into_value)
}

/// A table of operations: `operations!(ecs: { RunTask => tasks::run, … })`.
macro_rules! operations {
    ($service:ident: { $($operation:ident => $handler:path,)* }) => {
        /// The operations served.
        pub static SERVICE: $crate::table::Service = $crate::table::Service {
            name: stringify!($service),
            operations: &[$((stringify!($operation), |call, input| {
                $crate::table::run::<wire::shapes::$service::op::$operation>(call, input, $handler)
            }),)*],
        };
    };
}
pub(crate) use operations;
