//! Tags of EC2's resources.

use state::ec2::{SecurityGroup, Subnet, Vpc};
use state::{Record, Tag, Tags};
use wire::Fault;
use wire::shapes::ec2 as shape;

use super::faults::{invalid, missing, unless_dry, unsupported};
use super::list::{Asked, Listed, list, one};
use super::{rules, security_groups, subnets, vpcs};
use crate::Call;

/// Tags of one resource ("Tag restrictions", EC2 user guide).
const TAGS_MAX: usize = 50;

/// The tags that a creation gives to its resource; tags for another kind of resource are an error.
pub(super) fn given(given: Option<Vec<shape::TagSpecification>>, kind: &str) -> Result<Tags, Fault> {
    let mut tags = Tags::new();
    for specification in given.unwrap_or_default() {
        let of = specification.resource_type.ok_or_else(|| missing("TagSpecification.ResourceType"))?;
        if of != kind {
            return Err(invalid(format!(
                "The tag specification resource type '{of}' is not valid for this request: use '{kind}'"
            )));
        }
        let specified = specification.tags.unwrap_or_default();
        if let Some(twice) =
            specified.iter().enumerate().find(|(i, t)| specified[..*i].iter().any(|o| o.key == t.key))
        {
            let key = twice.1.key.as_deref().unwrap_or_default();
            return Err(invalid(format!("Duplicate tag key '{key}' specified.")));
        }
        put(&mut tags, specified)?;
    }
    Ok(tags)
}

/// Adds or replaces tags.
fn put(tags: &mut Tags, given: Vec<shape::Tag>) -> Result<(), Fault> {
    for tag in given {
        let (key, value) = (tag.key.unwrap_or_default(), tag.value.unwrap_or_default());
        if key.is_empty() {
            return Err(invalid("Tag key cannot be null or empty"));
        }
        if key.to_lowercase().starts_with("aws:") {
            return Err(invalid(format!(
                "Value ( {key} ) for parameter key is invalid. Tag keys starting with 'aws:' are reserved for internal use"
            )));
        }
        if key.chars().count() > 128 {
            return Err(invalid(format!("Tag key exceeds the maximum length of 128 characters: '{key}'")));
        }
        if value.chars().count() > 256 {
            return Err(invalid(format!(
                "Tag value exceeds the maximum length of 256 characters. Key: '{key}'"
            )));
        }
        match tags.iter_mut().find(|old| old.key == key) {
            Some(old) => old.value = value,
            None => tags.push(Tag { key, value }),
        }
    }
    if tags.len() > TAGS_MAX {
        let message = "The maximum number of Tags for a resource has been reached.";
        return Err(Fault::new("TagLimitExceeded", message));
    }
    Ok(())
}

/// Removes tags: by key, or by key and value if a value is given; with no tags named, all.
fn remove(tags: &mut Tags, named: Option<&[shape::Tag]>) {
    let Some(named) = named.filter(|named| !named.is_empty()) else { return tags.clear() };
    tags.retain(|tag| {
        !named.iter().any(|n| {
            n.key.as_deref() == Some(&tag.key) && n.value.as_ref().is_none_or(|value| *value == tag.value)
        })
    });
}

/// Tags as answers show them.
pub(super) fn shown(tags: &Tags) -> Option<Vec<shape::Tag>> {
    let one = |tag: &Tag| shape::Tag { key: Some(tag.key.clone()), value: Some(tag.value.clone()) };
    Some(tags.iter().map(one).collect())
}

/// Changes the tags of a resource named by its id.
fn change(
    call: &mut Call<'_>,
    id: &str,
    change: &dyn Fn(&mut Tags) -> Result<(), Fault>,
) -> Result<(), Fault> {
    match id.rsplit_once('-').map(|(kind, _)| kind) {
        Some("vpc") => {
            let mut vpc = Vpc::clone(&*vpcs::find(call, id)?);
            change(&mut vpc.tags)?;
            call.tx.put(vpc);
        }
        Some("subnet") => {
            let mut subnet = Subnet::clone(&*subnets::find(call, id)?);
            change(&mut subnet.tags)?;
            call.tx.put(subnet);
        }
        Some("sg") => {
            let mut group = SecurityGroup::clone(&*security_groups::by_id(call, id)?);
            change(&mut group.tags)?;
            call.tx.put(group);
        }
        Some("sgr") => {
            let (key, at) = rules::find(call, id)?;
            let Some(group) = call.tx.get::<SecurityGroup>(&key) else { return Ok(()) };
            let mut group = SecurityGroup::clone(&group);
            change(&mut group.rules[at].tags)?;
            call.tx.put(group);
        }
        Some("rtb" | "igw" | "acl" | "eni" | "i" | "rtbassoc") => {
            return Err(unsupported(&format!("ResourceId {id}: tags of this kind of resource")));
        }
        _ => return Err(Fault::new("InvalidID", format!("The ID '{id}' is not valid"))),
    }
    Ok(())
}

pub(super) fn create(call: &mut Call<'_>, input: shape::CreateTagsRequest) -> Result<(), Fault> {
    let tags = input.tags.filter(|tags| !tags.is_empty()).ok_or_else(|| missing("Tag"))?;
    for id in input.resources.unwrap_or_default() {
        change(call, &id, &|old| put(old, tags.clone()))?;
    }
    unless_dry(input.dry_run, ())
}

pub(super) fn delete(call: &mut Call<'_>, input: shape::DeleteTagsRequest) -> Result<(), Fault> {
    for id in input.resources.unwrap_or_default() {
        change(call, &id, &|old| {
            remove(old, input.tags.as_deref());
            Ok(())
        })?;
    }
    unless_dry(input.dry_run, ())
}

/// A tag in a list, and the id that sorts it.
#[derive(Default)]
struct Entry {
    sort: String,
    shown: shape::TagDescription,
}

impl Listed for Entry {
    const IDS: &'static str = "resourceIds";
    fn id(&self) -> &str {
        &self.sort
    }
    fn missing(id: &str) -> Fault {
        Fault::new("InvalidID", format!("The ID '{id}' is not valid"))
    }
    fn tags(&self) -> Option<&[shape::Tag]> {
        None
    }
    fn values(&self, filter: &str) -> Option<Vec<String>> {
        match filter {
            "key" => one(&self.shown.key),
            "resource-id" => one(&self.shown.resource_id),
            "resource-type" => one(&self.shown.resource_type),
            "value" => one(&self.shown.value),
            _ => {
                let key = filter.strip_prefix("tag:")?;
                let value = self.shown.value.clone();
                one(&value.filter(|_| self.shown.key.as_deref() == Some(key)))
            }
        }
    }
}

pub(super) fn describe(
    call: &mut Call<'_>,
    input: shape::DescribeTagsRequest,
) -> Result<shape::DescribeTagsResult, Fault> {
    let shape::DescribeTagsRequest { dry_run, filters, max_results, next_token } = input;
    let mut entries = Vec::new();
    for (kind, id, tags) in all(call) {
        for tag in tags {
            entries.push(Entry {
                sort: format!("{id}/{}", tag.key),
                shown: shape::TagDescription {
                    key: Some(tag.key),
                    resource_id: Some(id.clone()),
                    resource_type: Some(kind.into()),
                    value: Some(tag.value),
                },
            });
        }
    }
    let (found, next_token) = list(entries, Asked { ids: None, filters, max_results, next_token })?;
    let tags = Some(found.into_iter().map(|entry| entry.shown).collect());
    unless_dry(dry_run, shape::DescribeTagsResult { next_token, tags })
}

/// Every tagged resource of the caller: its kind, its id, its tags.
fn all(call: &Call<'_>) -> Vec<(&'static str, String, Tags)> {
    let prefix = call.scope().prefix();
    let mut found = Vec::new();
    for vpc in vpcs::all(call) {
        found.push(("vpc", vpc.id.clone(), vpc.tags.clone()));
    }
    for (key, subnet) in call.tx.table::<Subnet>().scan(&prefix) {
        debug_assert_eq!(key, subnet.key());
        found.push(("subnet", subnet.id.clone(), subnet.tags.clone()));
    }
    for group in security_groups::all(call) {
        found.push(("security-group", group.id.clone(), group.tags.clone()));
        let of_rules = group.rules.iter();
        found.extend(of_rules.map(|rule| ("security-group-rule", rule.id.clone(), rule.tags.clone())));
    }
    found
}
