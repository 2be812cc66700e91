//! Amazon ECR: the table of its operations.
//!
//! Handlers change repositories; images and tags change through `state::ecr::images`, as they do for the registry.

mod faults;
mod images;
mod layers;
mod lifecycle;
mod policies;
pub(crate) mod push;
mod registry;
mod repositories;
mod tags;
#[cfg(test)]
mod tests;

crate::table::operations!(ecr: {
    CreateRepository => repositories::create,
    DescribeRepositories => repositories::describe,
    DeleteRepository => repositories::delete,
    PutImageTagMutability => repositories::put_mutability,
    PutImageScanningConfiguration => repositories::put_scanning,
    DescribeRegistry => registry::describe,
    GetAuthorizationToken => registry::authorization_token,
    DescribeImages => images::describe,
    ListImages => images::list,
    BatchGetImage => images::batch_get,
    BatchDeleteImage => images::batch_delete,
    PutImage => push::put_image,
    BatchCheckLayerAvailability => layers::batch_check,
    GetDownloadUrlForLayer => layers::download_url,
    InitiateLayerUpload => layers::initiate,
    UploadLayerPart => layers::upload_part,
    CompleteLayerUpload => layers::complete,
    SetRepositoryPolicy => policies::set,
    GetRepositoryPolicy => policies::get,
    DeleteRepositoryPolicy => policies::delete,
    PutLifecyclePolicy => lifecycle::put,
    GetLifecyclePolicy => lifecycle::get,
    DeleteLifecyclePolicy => lifecycle::delete,
    TagResource => tags::tag,
    UntagResource => tags::untag,
    ListTagsForResource => tags::list,
});
