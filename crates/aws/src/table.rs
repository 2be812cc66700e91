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
pub type Handler = fn(&mut Call<'_>, Value) -> Result<Answer, Fault>;

/// What a handler answers. It is made a value of later: decisions take turns, and this needs none.
pub type Answer = Later<Value>;

/// Something that is worked out when it is asked for, at most once.
pub struct Later<T>(Box<dyn FnOnce() -> T + Send>);

impl<T> Later<T> {
    /// What a function will give.
    pub fn new(give: impl FnOnce() -> T + Send + 'static) -> Later<T> {
        Later(Box::new(give))
    }

    /// Works it out.
    pub fn get(self) -> T {
        (self.0)()
    }
}

impl<T: Send + 'static> From<T> for Later<T> {
    fn from(known: T) -> Later<T> {
        Later::new(|| known)
    }
}

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

/// Reads the input, runs the typed handler.
pub(crate) fn run<O: Operation, R>(
    call: &mut Call<'_>,
    input: Value,
    handler: impl FnOnce(&mut Call<'_>, O::Input) -> Result<R, Fault>,
) -> Result<Answer, Fault>
where
    O::Output: 'static,
    R: Into<Later<O::Output>>,
{
    let output = handler(call, O::Input::from_value(input))?.into();
    Ok(Later::new(|| output.get().into_value()))
}

/// A table of operations: `operations!(ecs: { RunTask => tasks::run, … })`.
macro_rules! operations {
    ($service:ident: { $($operation:ident => $handler:path,)* }) => {
        /// The operations served.
        pub static SERVICE: $crate::table::Service = $crate::table::Service {
            name: stringify!($service),
            operations: &[$((stringify!($operation), |call, input| {
                $crate::table::run::<wire::shapes::$service::op::$operation, _>(call, input, $handler)
            }),)*],
        };
    };
}
pub(crate) use operations;
