//! Errors as the OCI Distribution Specification writes them: `{"errors":[{"code":…,"message":…}]}`.

use http::StatusCode;
use state::Scope;
use state::ecr::images::ImageError;

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// The HTTP status.
    pub status: StatusCode,
    /// A code of the specification's table.
    pub code: &'static str,
    /// For people.
    pub message: String,
    /// A header that says where an upload is, or how long a blob.
    pub header: Option<(&'static str, String)>,
}

impl Error {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Error {
        Error { status, code, message: message.into(), header: None }
    }

    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Error {
        Error::new(StatusCode::BAD_REQUEST, code, message)
    }

    /// A range that does not continue an upload or lies outside a blob, with the header that says what would.
    pub(crate) fn range(
        code: &'static str,
        message: impl Into<String>,
        header: (&'static str, String),
    ) -> Error {
        let header = Some(header);
        Error { header, ..Error::new(StatusCode::RANGE_NOT_SATISFIABLE, code, message) }
    }

    pub(crate) fn unauthorized() -> Error {
        Error::new(StatusCode::UNAUTHORIZED, "UNAUTHORIZED", "Not Authorized")
    }

    pub(crate) fn no_repository(scope: &Scope, name: &str) -> Error {
        let message = format!(
            "The repository with name '{name}' does not exist in the registry with id '{}'",
            scope.account
        );
        Error::new(StatusCode::NOT_FOUND, "NAME_UNKNOWN", message)
    }

    pub(crate) fn no_blob(digest: &str) -> Error {
        Error::new(StatusCode::NOT_FOUND, "BLOB_UNKNOWN", format!("The blob '{digest}' was not found"))
    }

    pub(crate) fn no_upload(id: &str) -> Error {
        let message = format!("The upload '{id}' was not found");
        Error::new(StatusCode::NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", message)
    }

    pub(crate) fn no_manifest() -> Error {
        Error::new(StatusCode::NOT_FOUND, "MANIFEST_UNKNOWN", "Requested image not found")
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Error {
        Error::new(StatusCode::METHOD_NOT_ALLOWED, "UNSUPPORTED", message)
    }

    pub(crate) fn internal(error: impl std::fmt::Display) -> Error {
        Error::new(StatusCode::INTERNAL_SERVER_ERROR, "UNKNOWN", error.to_string())
    }

    /// What a refused change of images is called here; `tag` is that of the push.
    pub(crate) fn of_image(error: ImageError, scope: &Scope, name: &str, tag: Option<&str>) -> Error {
        match error {
            ImageError::RepositoryUnknown => Error::no_repository(scope, name),
            ImageError::ManifestInvalid(why) => Error::bad("MANIFEST_INVALID", why),
            ImageError::BlobsUnknown(digests) => Error::bad(
                "MANIFEST_BLOB_UNKNOWN",
                format!("blobs unknown to the repository: {}", digests.join(", ")),
            ),
            ImageError::ManifestsUnknown(digests) => Error::bad(
                "MANIFEST_BLOB_UNKNOWN",
                format!("manifests unknown to the repository: {}", digests.join(", ")),
            ),
            ImageError::TagImmutable => Error::bad(
                "TAG_INVALID",
                format!(
                    "The image tag '{}' already exists in the '{name}' repository and cannot be overwritten because \
                     the tag is immutable.",
                    tag.unwrap_or_default()
                ),
            ),
            ImageError::ImageUnknown => Error::no_manifest(),
            ImageError::ListedBy(lists) => Error::new(
                StatusCode::CONFLICT,
                "DENIED",
                format!("Requested image referenced by manifest list: [{}]", lists.join(", ")),
            ),
        }
    }

    /// The body.
    pub(crate) fn json(&self) -> Vec<u8> {
        let error = serde_json::json!({ "code": self.code, "message": self.message });
        serde_json::json!({ "errors": [error] }).to_string().into_bytes()
    }
}
