//! Addresses of the kernel's own symbols.

use std::{
    fs::File,
    io::{BufRead, BufReader},
};

const SYMBOLS: &str = "/proc/kallsyms";

/// `None` where the kernel has no such symbol or does not tell its address.
pub(crate) fn address_of(name: &str) -> Option<u64> {
    let mut symbols = BufReader::with_capacity(1 << 16, File::open(SYMBOLS).ok()?);
    let mut line = Vec::new();
    while symbols.read_until(b'\n', &mut line).ok()? > 0 {
        let text = std::str::from_utf8(&line).ok()?;
        let mut fields = text.split_ascii_whitespace();
        if let (Some(address), Some(found)) = (fields.next(), fields.nth(1))
            && found == name
        {
            return u64::from_str_radix(address, 16).ok().filter(|address| *address > 0);
        }
        line.clear();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbol_of_the_running_kernel_is_found_and_another_is_not() {
        assert!(address_of("schedule").is_some());
        assert_eq!(address_of("no_kernel_has_this"), None);
    }
}
