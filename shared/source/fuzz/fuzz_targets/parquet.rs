//! Feeds any bytes to the entry point of the same name. To the reader a panic of a library is an error of the file: here it
//! ends the run only where it leaves the reader.
#![no_main]

use std::panic::Location;

#[path = "../entry.rs"]
#[allow(dead_code)]
mod entry;

libfuzzer_sys::fuzz_target!(
    init: {
        let end = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let of_a_library = |at: &Location<'_>| at.file().contains("/registry/src/");
            if !panic.location().is_some_and(of_a_library) {
                end(panic);
            }
        }));
    },
    |data: &[u8]| entry::parquet(data)
);
