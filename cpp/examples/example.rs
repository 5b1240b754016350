//! The library from Rust, without a crate: example BUNDLE. It replays the golden data.
//!
//!     rustc -O example.rs -L PREFIX/lib -l paraexport && LD_LIBRARY_PATH=PREFIX/lib ./example model.bundle

use std::ffi::{c_char, c_int, c_void, CStr, CString};

extern "C" {
    fn paraexport_open(path: *const c_char, options: *const c_void, engine: *mut *mut c_void) -> c_int;
    fn paraexport_check(engine: *const c_void, difference: *mut f64) -> c_int;
    fn paraexport_label(engine: *const c_void, index: usize) -> *const c_char;
    fn paraexport_close(engine: *mut c_void) -> c_int;
    fn paraexport_last_error() -> *const c_char;
}

fn require(status: c_int) {
    if status != 0 {
        // The text is valid until the next call on this thread.
        let message = unsafe { CStr::from_ptr(paraexport_last_error()) };
        eprintln!("{}", message.to_string_lossy());
        std::process::exit(status);
    }
}

fn main() {
    let path = CString::new(std::env::args().nth(1).expect("usage: example BUNDLE")).unwrap();
    let mut engine = std::ptr::null_mut();
    let mut difference = 0.0;
    unsafe {
        require(paraexport_open(path.as_ptr(), std::ptr::null(), &mut engine));
        require(paraexport_check(engine, &mut difference));
        let label = CStr::from_ptr(paraexport_label(engine, 0));
        println!("first label {}, golden difference {:.3e}", label.to_string_lossy(), difference);
        paraexport_close(engine);
    }
}
