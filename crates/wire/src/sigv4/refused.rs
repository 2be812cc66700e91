//! Why a request was not authenticated, and how each protocol says it.

use crate::{Fault, Protocol};

/// A refusal: the reason decides the code, the text is AWS's.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// The text for the caller.
    pub message: String,
}

/// The reasons that AWS tells apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There is no signature.
    Missing,
    /// The signature's parts are missing or malformed.
    Incomplete,
    /// The access key or its token is unknown.
    UnknownKey,
    /// The signature or its scope is wrong.
    Mismatch,
    /// The request's date is too far from ours, or the presigned URL's time is over.
    Expired,
    /// Temporary credentials have ended.
    ExpiredToken,
}

impl Refused {
    /// A refusal with its text.
    pub fn new(reason: Reason, message: impl Into<String>) -> Refused {
        Refused { reason, message: message.into() }
    }

    pub(super) fn unknown_key() -> Refused {
        Refused::new(Reason::UnknownKey, "The security token included in the request is invalid.")
    }

    pub(super) fn bad_signature() -> Refused {
        let message = "The request signature we calculated does not match the signature you provided. Check your AWS \
                       Secret Access Key and signing method. Consult the service documentation for details.";
        Refused::new(Reason::Mismatch, message)
    }

    /// The fault as services of this protocol word it.
    pub fn fault(&self, protocol: Protocol) -> Fault {
        let message = self.message.as_str();
        let (code, status, message) = match protocol {
            Protocol::Query => match self.reason {
                Reason::Missing => {
                    ("MissingAuthenticationToken", 403, "Request is missing Authentication Token")
                }
                Reason::Incomplete => ("IncompleteSignature", 400, message),
                Reason::UnknownKey => ("InvalidClientTokenId", 403, message),
                Reason::Mismatch | Reason::Expired => ("SignatureDoesNotMatch", 403, message),
                Reason::ExpiredToken => ("ExpiredToken", 403, message),
            },
            Protocol::Ec2 => match self.reason {
                Reason::Missing => {
                    ("MissingAuthenticationToken", 403, "Request is missing Authentication Token")
                }
                Reason::Incomplete => ("IncompleteSignature", 400, message),
                Reason::UnknownKey | Reason::Mismatch => {
                    // EC2 does not say which of the two it was.
                    ("AuthFailure", 401, "AWS was not able to validate the provided access credentials")
                }
                Reason::Expired | Reason::ExpiredToken => ("RequestExpired", 400, "Request has expired."),
            },
            _ => {
                let code = match self.reason {
                    Reason::Missing => "MissingAuthenticationTokenException",
                    Reason::Incomplete => "IncompleteSignatureException",
                    Reason::UnknownKey => "UnrecognizedClientException",
                    Reason::Mismatch | Reason::Expired => "InvalidSignatureException",
                    Reason::ExpiredToken => "ExpiredTokenException",
                };
                (code, if protocol == Protocol::RestJson { 403 } else { 400 }, message)
            }
        };
        Fault::new(code, message).status(status)
    }
}
