//! Availability zones and regions. Every region can be called; each has three zones.

use wire::Fault;
use wire::shapes::ec2 as shape;

use super::faults::{invalid, unless_dry};
use super::list::{Asked, Listed, list, one};
use crate::Call;

/// Regions that every account has ("AWS Regions", AWS general reference).
const REGIONS: [&str; 17] = [
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-southeast-1",
    "ap-southeast-2",
    "ca-central-1",
    "eu-central-1",
    "eu-north-1",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// Regions that an AWS account opts in to; here all are.
const OPT_IN_REGIONS: [&str; 16] = [
    "af-south-1",
    "ap-east-1",
    "ap-east-2",
    "ap-south-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ap-southeast-5",
    "ap-southeast-7",
    "ca-west-1",
    "eu-central-2",
    "eu-south-1",
    "eu-south-2",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "mx-central-1",
];

/// The names of a region's zones.
pub(super) fn names(region: &str) -> [String; 3] {
    ["a", "b", "c"].map(|letter| format!("{region}{letter}"))
}

/// The id of a zone: `use1-az1` is `us-east-1a`.
pub(super) fn id(zone: &str) -> String {
    let Some((region, letter)) = zone.split_at_checked(zone.len().saturating_sub(1)) else {
        return String::new();
    };
    let mut short = String::new();
    for (at, part) in region.split('-').enumerate() {
        match part {
            "northeast" => short += "ne",
            "northwest" => short += "nw",
            "southeast" => short += "se",
            "southwest" => short += "sw",
            part if at == 0 => short += part,
            part => short.extend(part.chars().next()),
        }
    }
    let number = letter.bytes().next().map_or(1, |letter| letter.saturating_sub(b'a') + 1);
    format!("{short}-az{number}")
}

pub(super) fn describe_zones(
    call: &mut Call<'_>,
    input: shape::DescribeAvailabilityZonesRequest,
) -> Result<shape::DescribeAvailabilityZonesResult, Fault> {
    let region = &call.scope().region;
    let mut shown: Vec<shape::AvailabilityZone> = names(region).map(|name| view(region, name)).into();
    if let Some(ids) = input.zone_ids.filter(|ids| !ids.is_empty()) {
        if let Some(unknown) =
            ids.iter().find(|id| !shown.iter().any(|zone| zone.zone_id.as_ref() == Some(id)))
        {
            return Err(invalid(format!("Invalid availability zone-id: [{unknown}]")));
        }
        shown.retain(|zone| zone.zone_id.as_ref().is_some_and(|id| ids.contains(id)));
    }
    let asked = Asked { ids: input.zone_names, filters: input.filters, ..Default::default() };
    let (zones, _) = list(shown, asked)?;
    unless_dry(input.dry_run, shape::DescribeAvailabilityZonesResult { availability_zones: Some(zones) })
}

fn view(region: &str, name: String) -> shape::AvailabilityZone {
    shape::AvailabilityZone {
        opt_in_status: Some("opt-in-not-required".into()),
        messages: Some(Vec::new()),
        region_name: Some(region.to_owned()),
        zone_id: Some(id(&name)),
        zone_name: Some(name),
        group_name: Some(region.to_owned()),
        network_border_group: Some(region.to_owned()),
        zone_type: Some("availability-zone".into()),
        state: Some("available".into()),
        ..Default::default()
    }
}

impl Listed for shape::AvailabilityZone {
    const IDS: &'static str = "zoneNames";
    fn id(&self) -> &str {
        self.zone_name.as_deref().unwrap_or_default()
    }
    fn missing(id: &str) -> Fault {
        invalid(format!("Invalid availability zone: [{id}]"))
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        None
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        match filter {
            "group-name" => one(&self.group_name),
            "opt-in-status" => one(&self.opt_in_status),
            "region-name" => one(&self.region_name),
            "state" => one(&self.state),
            "zone-id" => one(&self.zone_id),
            "zone-name" => one(&self.zone_name),
            "zone-type" => one(&self.zone_type),
            "message" | "parent-zone-id" | "parent-zone-name" | "group-long-name" => Some(Vec::new()),
            _ => None,
        }
    }
}

pub(super) fn describe_regions(
    call: &mut Call<'_>,
    input: shape::DescribeRegionsRequest,
) -> Result<shape::DescribeRegionsResult, Fault> {
    let endpoint = call.site.endpoint.split_once("://").map_or(&*call.site.endpoint, |(_, host)| host);
    let view = |name: &&str, status: &str| shape::Region {
        opt_in_status: Some(status.into()),
        region_name: Some((*name).into()),
        endpoint: Some(endpoint.into()),
        geography: None,
    };
    let mut shown: Vec<shape::Region> =
        REGIONS.iter().map(|name| view(name, "opt-in-not-required")).collect();
    shown.extend(OPT_IN_REGIONS.iter().map(|name| view(name, "opted-in")));
    let asked = Asked { ids: input.region_names, filters: input.filters, ..Default::default() };
    let (regions, _) = list(shown, asked)?;
    unless_dry(input.dry_run, shape::DescribeRegionsResult { regions: Some(regions) })
}

impl Listed for shape::Region {
    const IDS: &'static str = "regionNames";
    fn id(&self) -> &str {
        self.region_name.as_deref().unwrap_or_default()
    }
    fn missing(id: &str) -> Fault {
        invalid(format!("Invalid region provided: [{id}]"))
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        None
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        match filter {
            "endpoint" => one(&self.endpoint),
            "opt-in-status" => one(&self.opt_in_status),
            "region-name" => one(&self.region_name),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_have_their_published_ids() {
        let cases = [
            ("us-east-1a", "use1-az1"),
            ("us-west-2c", "usw2-az3"),
            ("eu-central-1b", "euc1-az2"),
            ("ap-northeast-1a", "apne1-az1"),
            ("ap-southeast-2a", "apse2-az1"),
            ("us-gov-west-1a", "usgw1-az1"),
        ];
        for (name, expected) in cases {
            assert_eq!(id(name), expected);
        }
    }
}
