//! ECS operations.

mod capacity;
mod clusters;
mod definition;
mod document;
mod faults;
mod instances;
mod launch_kind;
mod network;
mod overrides;
mod refs;
mod service_checks;
mod service_queries;
mod service_view;
mod services;
mod settings;
mod tags;
mod task_definitions;
mod task_queries;
mod task_view;
mod tasks;
#[cfg(test)]
mod tests;

crate::table::operations!(ecs: {
    CreateCluster => clusters::create,
    DescribeClusters => clusters::describe,
    ListClusters => clusters::list,
    UpdateCluster => clusters::update,
    UpdateClusterSettings => clusters::update_settings,
    DeleteCluster => clusters::delete,
    PutClusterCapacityProviders => capacity::put,
    DescribeCapacityProviders => capacity::describe,
    RegisterTaskDefinition => task_definitions::register,
    DescribeTaskDefinition => task_definitions::describe,
    ListTaskDefinitions => task_definitions::list,
    ListTaskDefinitionFamilies => task_definitions::list_families,
    DeregisterTaskDefinition => task_definitions::deregister,
    DeleteTaskDefinitions => task_definitions::delete,
    RunTask => tasks::run,
    StartTask => tasks::start,
    StopTask => tasks::stop,
    DescribeTasks => task_queries::describe,
    ListTasks => task_queries::list,
    CreateService => services::create,
    UpdateService => services::update,
    DeleteService => services::delete,
    DescribeServices => service_queries::describe,
    ListServices => service_queries::list,
    ListServiceDeployments => service_queries::list_deployments,
    DescribeServiceDeployments => service_queries::describe_deployments,
    DescribeServiceRevisions => service_queries::describe_revisions,
    ListContainerInstances => instances::list,
    DescribeContainerInstances => instances::describe,
    ListAttributes => instances::list_attributes,
    TagResource => tags::tag,
    UntagResource => tags::untag,
    ListTagsForResource => tags::list,
    PutAccountSetting => settings::put,
    PutAccountSettingDefault => settings::put_default,
    ListAccountSettings => settings::list,
    DeleteAccountSetting => settings::delete,
});
