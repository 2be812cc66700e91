//! Repositories: create, describe, delete, and their settings.

use state::ecr::{Mutability, Repository, images};
use state::{Tag, Tags};
use wire::Fault;
use wire::shapes::ecr as shapes;

use super::faults::{check_tags, invalid, no_repository, own_registry, repository};
use crate::{Call, Page};

/// CreateRepository.
pub(super) fn create(
    call: &mut Call<'_>,
    input: shapes::CreateRepositoryRequest,
) -> Result<shapes::CreateRepositoryResponse, Fault> {
    own_registry(call, input.registry_id.as_deref(), "CreateRepository")?;
    let name = input.repository_name.unwrap_or_default();
    let mutability =
        mutability(input.image_tag_mutability.as_deref(), input.image_tag_mutability_exclusion_filters)?;
    only_default_encryption(input.encryption_configuration)?;
    let tags: Tags = input.tags.unwrap_or_default().into_iter().map(tag_from).collect();
    check_tags(&tags)?;
    let scope = call.scope().clone();
    if call.tx.get::<Repository>(&scope.key(&name)).is_some() {
        let message = format!(
            "The repository with name '{name}' already exists in the registry with id '{}'",
            scope.account
        );
        return Err(Fault::new("RepositoryAlreadyExistsException", message));
    }
    let repository = Repository {
        scope,
        name,
        mutability,
        scan_on_push: input.image_scanning_configuration.and_then(|c| c.scan_on_push).unwrap_or(false),
        policy: None,
        lifecycle_policy: None,
        tags,
        created_at_ms: call.now_ms,
    };
    call.tx.put(repository.clone());
    Ok(shapes::CreateRepositoryResponse { repository: Some(view(call, &repository)) })
}

/// DescribeRepositories.
pub(super) fn describe(
    call: &mut Call<'_>,
    input: shapes::DescribeRepositoriesRequest,
) -> Result<shapes::DescribeRepositoriesResponse, Fault> {
    own_registry(call, input.registry_id.as_deref(), "DescribeRepositories")?;
    if let Some(names) = input.repository_names.filter(|names| !names.is_empty()) {
        if input.next_token.is_some() || input.max_results.is_some() {
            let why = "cannot be used when repositories are specified with 'repositoryNames'";
            return Err(invalid(if input.next_token.is_some() { "nextToken" } else { "maxResults" }, why));
        }
        let found: Result<Vec<_>, Fault> = names
            .iter()
            .map(|name| {
                let found = call.tx.get::<Repository>(&call.scope().key(name));
                found.map(|r| view(call, &r)).ok_or_else(|| no_repository(call.scope(), name))
            })
            .collect();
        return Ok(shapes::DescribeRepositoriesResponse { repositories: Some(found?), next_token: None });
    }
    let page = page(input.next_token.as_deref(), input.max_results)?;
    let prefix = call.scope().prefix();
    let all = call.tx.table::<Repository>().scan(&prefix).map(|(_, repository)| repository);
    let (repositories, next_token) = page.take(all, |repository| repository.name.clone());
    let repositories = repositories.into_iter().map(|repository| view(call, repository)).collect();
    Ok(shapes::DescribeRepositoriesResponse { repositories: Some(repositories), next_token })
}

/// DeleteRepository.
pub(super) fn delete(
    call: &mut Call<'_>,
    input: shapes::DeleteRepositoryRequest,
) -> Result<shapes::DeleteRepositoryResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    let repository = repository(call, input.registry_id.as_deref(), &name, "DeleteRepository")?;
    let scope = call.scope().clone();
    let holds_images = !images::in_repository(call.tx.snapshot(), &scope, &name).is_empty();
    if holds_images && !input.force.unwrap_or(false) {
        let message = format!(
            "The repository with name '{name}' in registry with id '{}' cannot be deleted because it still contains images",
            scope.account
        );
        return Err(Fault::new("RepositoryNotEmptyException", message));
    }
    images::delete_repository(call.tx, &scope, &name);
    Ok(shapes::DeleteRepositoryResponse { repository: Some(view(call, &repository)) })
}

/// PutImageTagMutability.
pub(super) fn put_mutability(
    call: &mut Call<'_>,
    input: shapes::PutImageTagMutabilityRequest,
) -> Result<shapes::PutImageTagMutabilityResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    let repository = repository(call, input.registry_id.as_deref(), &name, "PutImageTagMutability")?;
    let mutability =
        mutability(input.image_tag_mutability.as_deref(), input.image_tag_mutability_exclusion_filters)?;
    call.tx.put(Repository { mutability: mutability.clone(), ..Repository::clone(&repository) });
    Ok(shapes::PutImageTagMutabilityResponse {
        registry_id: Some(repository.scope.account.clone()),
        repository_name: Some(name),
        image_tag_mutability_exclusion_filters: filters_view(&mutability),
        image_tag_mutability: Some(mutability.mode),
    })
}

/// PutImageScanningConfiguration.
pub(super) fn put_scanning(
    call: &mut Call<'_>,
    input: shapes::PutImageScanningConfigurationRequest,
) -> Result<shapes::PutImageScanningConfigurationResponse, Fault> {
    let name = input.repository_name.unwrap_or_default();
    let repository = repository(call, input.registry_id.as_deref(), &name, "PutImageScanningConfiguration")?;
    let scan_on_push = input.image_scanning_configuration.and_then(|c| c.scan_on_push).unwrap_or(false);
    call.tx.put(Repository { scan_on_push, ..Repository::clone(&repository) });
    Ok(shapes::PutImageScanningConfigurationResponse {
        registry_id: Some(repository.scope.account.clone()),
        repository_name: Some(name),
        image_scanning_configuration: Some(shapes::ImageScanningConfiguration {
            scan_on_push: Some(scan_on_push),
        }),
    })
}

/// A repository as the API shows it.
fn view(call: &Call<'_>, repository: &Repository) -> shapes::Repository {
    shapes::Repository {
        repository_arn: Some(repository.arn()),
        registry_id: Some(repository.scope.account.clone()),
        repository_name: Some(repository.name.clone()),
        repository_uri: Some(format!("{}/{}", call.site.registry_host, repository.name)),
        created_at: Some(repository.created_at_ms),
        image_tag_mutability: Some(repository.mutability.mode.clone()),
        image_tag_mutability_exclusion_filters: filters_view(&repository.mutability),
        image_scanning_configuration: Some(shapes::ImageScanningConfiguration {
            scan_on_push: Some(repository.scan_on_push),
        }),
        encryption_configuration: Some(shapes::EncryptionConfiguration {
            encryption_type: Some("AES256".into()),
            kms_key: None,
        }),
    }
}

fn filters_view(mutability: &Mutability) -> Option<Vec<shapes::ImageTagMutabilityExclusionFilter>> {
    let view = |pattern: &String| shapes::ImageTagMutabilityExclusionFilter {
        filter_type: Some("WILDCARD".into()),
        filter: Some(pattern.clone()),
    };
    (!mutability.exclusions.is_empty()).then(|| mutability.exclusions.iter().map(view).collect())
}

/// Reads the mutability settings: filters go with the `_WITH_EXCLUSION` modes and only with them.
fn mutability(
    mode: Option<&str>,
    filters: Option<Vec<shapes::ImageTagMutabilityExclusionFilter>>,
) -> Result<Mutability, Fault> {
    const PARAMETER: &str = "imageTagMutabilityExclusionFilters";
    let mode = mode.unwrap_or("MUTABLE").to_owned();
    let filters = filters.unwrap_or_default();
    let takes_filters = mode.ends_with("_WITH_EXCLUSION");
    if takes_filters && filters.is_empty() {
        let why = format!(
            "ImageTagMutabilityExclusionFilters can't be null when imageTagMutability is set as {mode}"
        );
        return Err(invalid(PARAMETER, &why));
    }
    if !takes_filters && !filters.is_empty() {
        let why = format!(
            "ImageTagMutabilityExclusionFilters must be null when imageTagMutability is set as {mode}"
        );
        return Err(invalid(PARAMETER, &why));
    }
    let exclusions: Vec<String> = filters.into_iter().filter_map(|filter| filter.filter).collect();
    if exclusions.iter().any(|pattern| pattern.matches('*').count() > 2) {
        return Err(invalid(PARAMETER, "a filter has at most two wildcards (*)"));
    }
    Ok(Mutability { mode, exclusions })
}

/// Blobs lie in the data directory as they came: a key of the caller's own would be a promise not kept.
fn only_default_encryption(given: Option<shapes::EncryptionConfiguration>) -> Result<(), Fault> {
    let Some(given) = given else { return Ok(()) };
    let kind = given.encryption_type.unwrap_or_else(|| "AES256".into());
    if kind != "AES256" {
        return Err(invalid("encryptionConfiguration", &format!("encryptionType {kind} is not supported")));
    }
    if given.kms_key.is_some() {
        return Err(invalid("encryptionConfiguration", "kmsKey is not supported"));
    }
    Ok(())
}

/// The page asked for: 100 unless told.
pub(super) fn page(token: Option<&str>, max_results: Option<i64>) -> Result<Page<'_>, Fault> {
    let page = Page { token, limit: max_results.map_or(100, |max| max.clamp(1, 1000) as usize) };
    if page.is_valid() { Ok(page) } else { Err(invalid("nextToken", "Invalid pagination token")) }
}

/// A tag as it is kept.
pub(super) fn tag_from(tag: shapes::Tag) -> Tag {
    Tag { key: tag.key.unwrap_or_default(), value: tag.value.unwrap_or_default() }
}
