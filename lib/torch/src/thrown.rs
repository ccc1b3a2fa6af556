//! What C++ throws, as errors.

use std::ffi::{CStr, c_char};

use tch::TchError;

/// The error of a call that `caught` of thrown.h made: null, or text.
///
/// # Errors
/// The text.
///
/// # Safety
/// The text is one that `caught` made, and nobody else's.
pub(crate) unsafe fn check(error: *mut c_char) -> Result<(), TchError> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: it is a string that ends, and ours.
    let text = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: strdup made it.
    unsafe { libc::free(error.cast()) };
    Err(TchError::Torch(text))
}
