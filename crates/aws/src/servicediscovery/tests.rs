//! Tests of the Cloud Map operations.

use serde_json::{Value as Json, json};

use crate::testing::World;

/// A world with a private DNS namespace; its id.
fn world() -> (World, String) {
    let mut world = World::new("servicediscovery");
    let vpc = world.vpc();
    let namespace =
        namespace(&mut world, "CreatePrivateDnsNamespace", json!({"Name": "shop.local", "Vpc": vpc}));
    (world, namespace)
}

fn namespace(world: &mut World, operation: &str, input: Json) -> String {
    let operation = world.ok(operation, input)["OperationId"].clone();
    let done = world.ok("GetOperation", json!({"OperationId": operation}));
    assert_eq!(done["Operation"]["Status"], "SUCCESS");
    done["Operation"]["Targets"]["NAMESPACE"].as_str().unwrap().to_owned()
}

fn service(world: &mut World, namespace: &str, name: &str) -> String {
    let records = json!([{"Type": "A", "TTL": 10}]);
    let made = world.ok(
        "CreateService",
        json!({"Name": name, "NamespaceId": namespace, "DnsConfig": {"DnsRecords": records},
               "HealthCheckCustomConfig": {"FailureThreshold": 1}}),
    );
    made["Service"]["Id"].as_str().unwrap().to_owned()
}

fn register(world: &mut World, service: &str, id: &str, more: Json) {
    let mut attributes = json!({"AWS_INSTANCE_IPV4": "172.31.0.9"});
    attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    world.ok("RegisterInstance", json!({"ServiceId": service, "InstanceId": id, "Attributes": attributes}));
}

#[test]
fn a_namespace_lives() {
    let (mut world, id) = world();
    let seen = world.ok("GetNamespace", json!({"Id": id}))["Namespace"].clone();
    assert_eq!((&seen["Name"], &seen["Type"]), (&json!("shop.local"), &json!("DNS_PRIVATE")));
    assert_eq!(seen["Properties"]["HttpProperties"]["HttpName"], "shop.local");
    assert_eq!(seen["Arn"], format!("arn:aws:servicediscovery:us-east-1:000000000000:namespace/{id}"));
    namespace(&mut world, "CreateHttpNamespace", json!({"Name": "api"}));
    let http = json!({"Filters": [{"Name": "TYPE", "Values": ["HTTP"]}]});
    assert_eq!(world.ok("ListNamespaces", http)["Namespaces"][0]["Name"], "api");
    let names = ["MaxResults", "NextToken", "NextToken", "Namespaces"];
    assert_eq!(world.pages("ListNamespaces", json!({}), names, 1).len(), 2);
    let web = service(&mut world, &id, "web");
    assert_eq!(
        world.err("DeleteNamespace", json!({"Id": id})),
        "ResourceInUse: Namespace has associated services and can't be deleted."
    );
    world.ok("DeleteService", json!({"Id": web}));
    world.ok("DeleteNamespace", json!({"Id": id}));
    let gone = format!("NamespaceNotFound: Namespace with id {id} was not found.");
    assert_eq!(world.err("GetNamespace", json!({"Id": id})), gone);
}

#[test]
fn a_name_used_again_in_another_vpc_gets_an_http_name_of_its_own() {
    let (mut world, first) = world();
    let vpc = world.ok_of("ec2", "CreateVpc", json!({"CidrBlock": "10.7.0.0/16"}))["Vpc"]["VpcId"].clone();
    let input = json!({"Name": "shop.local", "Vpc": vpc, "CreatorRequestId": "r"});
    let second = namespace(&mut world, "CreatePrivateDnsNamespace", input.clone());
    assert_ne!(first, second);
    // Asked again with the same request id, it is the same.
    assert_eq!(namespace(&mut world, "CreatePrivateDnsNamespace", input), second);
    assert!(
        world
            .err("CreatePrivateDnsNamespace", json!({"Name": "shop.local", "Vpc": vpc}))
            .starts_with("NamespaceAlreadyExists: ")
    );
    let http_name = |world: &mut World, id: &str| {
        let seen = world.ok("GetNamespace", json!({"Id": id}));
        seen["Namespace"]["Properties"]["HttpProperties"]["HttpName"].as_str().unwrap().to_owned()
    };
    assert_eq!(http_name(&mut world, &first), "shop.local");
    let own = http_name(&mut world, &second);
    assert!(own.starts_with("shop.local_"), "{own}");
    let web = service(&mut world, &second, "web");
    register(&mut world, &web, "i", json!({}));
    let found = world.ok("DiscoverInstances", json!({"NamespaceName": own, "ServiceName": "web"}));
    assert_eq!(found["Instances"].as_array().unwrap().len(), 1);
}

#[test]
fn a_service_lives() {
    let (mut world, id) = world();
    let web = service(&mut world, &id, "web");
    let seen = world.ok("GetService", json!({"Id": web}))["Service"].clone();
    assert_eq!(
        (&seen["Type"], &seen["DnsConfig"]["RoutingPolicy"]),
        (&json!("DNS_HTTP"), &json!("MULTIVALUE"))
    );
    assert_eq!(seen["DnsConfig"]["DnsRecords"], json!([{"Type": "A", "TTL": 10}]));
    let by_arn = world.ok("GetService", json!({"Id": seen["Arn"]}));
    assert_eq!(by_arn["Service"]["Id"], web);
    let change = json!({"Description": "d", "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 99}]}});
    world.ok("UpdateService", json!({"Id": web, "Service": change}));
    let seen = world.ok("GetService", json!({"Id": web}))["Service"].clone();
    assert_eq!((&seen["Description"], &seen["DnsConfig"]["DnsRecords"][0]["TTL"]), (&json!("d"), &json!(99)));
    let other = json!({"DnsConfig": {"DnsRecords": [{"Type": "SRV", "TTL": 1}]}});
    let http = namespace(&mut world, "CreateHttpNamespace", json!({"Name": "api"}));
    let with_records =
        json!({"Name": "a", "NamespaceId": http, "DnsConfig": {"DnsRecords": [{"Type": "A", "TTL": 1}]}});
    world.refused(&[
        (
            "UpdateService",
            json!({"Id": web, "Service": other}),
            "InvalidInput: Record types can't be added to a service",
        ),
        (
            "CreateService",
            json!({"Name": "WEB", "NamespaceId": id}),
            "ServiceAlreadyExists: A service with the same name already exists.",
        ),
        (
            "CreateService",
            json!({"Name": "a", "NamespaceId": "ns-1"}),
            "NamespaceNotFound: Namespace with id ns-1 was not found.",
        ),
        (
            "CreateService",
            with_records,
            "InvalidInput: DNS records can't be configured for a service that is discoverable by API calls only.",
        ),
        (
            "CreateService",
            json!({"Name": "a", "NamespaceId": id, "DnsConfig": {"DnsRecords": [{"Type": "AAAA", "TTL": 1}]}}),
            "InvalidInput: DNS records of type AAAA are not supported: use A or SRV",
        ),
        (
            "CreateService",
            json!({"Name": "a", "NamespaceId": id, "HealthCheckConfig": {"Type": "HTTP"}}),
            "InvalidInput: HealthCheckConfig is not supported",
        ),
        ("GetService", json!({"Id": "srv-1"}), "ServiceNotFound: Service with id srv-1 was not found."),
    ]);
    let of = json!({"Filters": [{"Name": "NAMESPACE_ID", "Values": [id]}]});
    assert_eq!(world.ok("ListServices", of)["Services"].as_array().unwrap().len(), 1);
    register(&mut world, &web, "i", json!({}));
    assert!(world.err("DeleteService", json!({"Id": web})).starts_with("ResourceInUse: "));
}

#[test]
fn instances_are_registered_discovered_and_removed() {
    let (mut world, id) = world();
    let web = service(&mut world, &id, "web");
    let revision = |world: &mut World| {
        let of = json!({"NamespaceName": "shop.local", "ServiceName": "web"});
        world.ok("DiscoverInstancesRevision", of)["InstancesRevision"].as_i64().unwrap()
    };
    let before = revision(&mut world);
    register(&mut world, &web, "one", json!({"stage": "blue"}));
    register(&mut world, &web, "two", json!({"stage": "green", "AWS_INIT_HEALTH_STATUS": "UNHEALTHY"}));
    assert_eq!(revision(&mut world), before + 2);
    let ids = |world: &mut World, more: Json| -> Vec<String> {
        let mut input = json!({"NamespaceName": "shop.local", "ServiceName": "web"});
        input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let found = world.ok("DiscoverInstances", input);
        let found = found["Instances"].as_array().unwrap();
        found.iter().map(|instance| instance["InstanceId"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&mut world, json!({})), ["one"]);
    assert_eq!(ids(&mut world, json!({"HealthStatus": "ALL"})), ["one", "two"]);
    assert_eq!(ids(&mut world, json!({"HealthStatus": "UNHEALTHY"})), ["two"]);
    // With none healthy among those asked for, all of them are given out.
    assert_eq!(ids(&mut world, json!({"QueryParameters": {"stage": "green"}})), ["two"]);
    assert_eq!(ids(&mut world, json!({"OptionalParameters": {"stage": "red"}})), ["one"]);
    assert_eq!(ids(&mut world, json!({"HealthStatus": "ALL", "MaxResults": 1})), ["one"]);
    let health = world.ok("GetInstancesHealthStatus", json!({"ServiceId": web}));
    assert_eq!(health["Status"], json!({"one": "HEALTHY", "two": "UNHEALTHY"}));
    let seen = world.ok("GetInstance", json!({"ServiceId": web, "InstanceId": "one"}));
    assert_eq!(seen["Instance"]["Attributes"], json!({"AWS_INSTANCE_IPV4": "172.31.0.9", "stage": "blue"}));
    let names = ["MaxResults", "NextToken", "NextToken", "Instances"];
    assert_eq!(world.pages("ListInstances", json!({"ServiceId": web}), names, 1).len(), 2);
    world.ok("DeregisterInstance", json!({"ServiceId": web, "InstanceId": "one"}));
    assert_eq!(ids(&mut world, json!({})), ["two"]);
    let instance = |attributes: Json| json!({"ServiceId": web, "InstanceId": "x", "Attributes": attributes});
    world.refused(&[
        (
            "DeregisterInstance",
            json!({"ServiceId": web, "InstanceId": "one"}),
            "InstanceNotFound: Instance with id one was not found.",
        ),
        (
            "RegisterInstance",
            instance(json!({"a": "b"})),
            "InvalidInput: AWS_INSTANCE_IPV4 is required for a service with A or SRV records",
        ),
        (
            "RegisterInstance",
            instance(json!({"AWS_INSTANCE_IPV4": "10.0.0.256"})),
            "InvalidInput: AWS_INSTANCE_IPV4 must be an IPv4 address",
        ),
        (
            "RegisterInstance",
            instance(json!({"AWS_INSTANCE_IPV4": "10.0.0.1", "AWS_INSTANCE_PORT": "x"})),
            "InvalidInput: AWS_INSTANCE_PORT must be from 0 to 65535",
        ),
        (
            "RegisterInstance",
            instance(json!({"AWS_ALIAS_DNS_NAME": "x"})),
            "InvalidInput: Attribute AWS_ALIAS_DNS_NAME is not supported",
        ),
        (
            "DiscoverInstances",
            json!({"NamespaceName": "none", "ServiceName": "web"}),
            "NamespaceNotFound: Namespace with name none was not found.",
        ),
        (
            "DiscoverInstances",
            json!({"NamespaceName": "shop.local", "ServiceName": "none"}),
            "ServiceNotFound: Service with name none was not found.",
        ),
    ]);
}

#[test]
fn operations_are_listed_by_filters() {
    let (mut world, id) = world();
    let web = service(&mut world, &id, "web");
    register(&mut world, &web, "one", json!({}));
    let count = |world: &mut World, filters: Json| {
        world.ok("ListOperations", json!({"Filters": filters}))["Operations"].as_array().unwrap().len()
    };
    assert_eq!(count(&mut world, json!([])), 2);
    assert_eq!(count(&mut world, json!([{"Name": "SERVICE_ID", "Values": [web]}])), 1);
    assert_eq!(
        count(&mut world, json!([{"Name": "TYPE", "Values": ["CREATE_NAMESPACE"], "Condition": "IN"}])),
        1
    );
    assert_eq!(count(&mut world, json!([{"Name": "STATUS", "Values": ["FAIL"]}])), 0);
    let none = "OperationNotFound: Operation with id none was not found.";
    assert_eq!(world.err("GetOperation", json!({"OperationId": "none"})), none);
}

#[test]
fn tags_of_namespaces_and_services() {
    let (mut world, id) = world();
    let web = service(&mut world, &id, "web");
    for resource in [format!("namespace/{id}"), format!("service/{web}")] {
        let arn = format!("arn:aws:servicediscovery:us-east-1:000000000000:{resource}");
        let tags = json!([{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]);
        world.ok("TagResource", json!({"ResourceARN": arn, "Tags": tags}));
        world.ok("UntagResource", json!({"ResourceARN": arn, "TagKeys": ["a"]}));
        let seen = world.ok("ListTagsForResource", json!({"ResourceARN": arn}));
        assert_eq!(seen["Tags"], json!([{"Key": "b", "Value": "2"}]), "{arn}");
    }
    assert!(
        world
            .err(
                "ListTagsForResource",
                json!({"ResourceARN": "arn:aws:servicediscovery:us-east-1:0:service/x"})
            )
            .starts_with("ResourceNotFoundException: ")
    );
}
