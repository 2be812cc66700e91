//! Extended attributes of what is unpacked.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Sets an attribute of an open file or folder.
///
/// # Errors
/// Those of `fsetxattr(2)`.
pub fn set(fd: BorrowedFd, name: &[u8], value: &[u8]) -> io::Result<()> {
    let name = CString::new(name)?;
    // SAFETY: name and value live through the call; the length is the value's.
    let set =
        unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    if set == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
