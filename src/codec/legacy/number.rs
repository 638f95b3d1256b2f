//! Numbers as Python reads them: blanks around them, a sign, and any size.

use std::fmt;

/// A decimal integer of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Number {
    negative: bool,
    /// Without leading zeros; `0` for nothing else.
    digits: String,
}

impl Number {
    /// Reads what Python's `int()` does.
    ///
    /// # Errors
    /// Python's own words.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        let refused = || {
            format!(
                "invalid literal for int() with base 10: {}",
                python_repr(text)
            )
        };
        let trimmed = trim(text);
        let (negative, digits) = match trimmed.split_first() {
            Some((b'-', digits)) => (true, digits),
            Some((b'+', digits)) => (false, digits),
            _ => (false, trimmed),
        };
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(refused());
        }
        let digits = std::str::from_utf8(digits).map_err(|_| refused())?;
        let digits = digits.trim_start_matches('0');
        Ok(Self {
            negative: negative && !digits.is_empty(),
            digits: if digits.is_empty() { "0" } else { digits }.to_owned(),
        })
    }

    /// The number as an offset: a negative one is 0, one beyond 2^64 is the largest.
    #[must_use]
    pub fn clamped(&self) -> u64 {
        if self.negative {
            return 0;
        }
        self.digits.parse().unwrap_or(u64::MAX)
    }

    /// The number as an offset, if it is one.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.digits.parse().ok().filter(|_| !self.negative)
    }

    /// Below 0.
    #[must_use]
    pub fn is_negative(&self) -> bool {
        self.negative
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.negative { "-" } else { "" })?;
        f.write_str(&self.digits)
    }
}

/// Without what is blank to Python at its ends: a vertical tab, too.
fn trim(mut text: &[u8]) -> &[u8] {
    let blank = |byte: &u8| byte.is_ascii_whitespace() || *byte == b'\x0b';
    while let Some((_, rest)) = text.split_first().filter(|(first, _)| blank(first)) {
        text = rest;
    }
    while let Some((_, rest)) = text.split_last().filter(|(last, _)| blank(last)) {
        text = rest;
    }
    text
}

/// How Python 2 shows a byte string.
fn python_repr(text: &[u8]) -> String {
    let quote = if text.contains(&b'\'') && !text.contains(&b'"') {
        '"'
    } else {
        '\''
    };
    let mut shown = String::from(quote);
    for byte in text {
        match byte {
            b'\\' => shown.push_str("\\\\"),
            b'\n' => shown.push_str("\\n"),
            b'\r' => shown.push_str("\\r"),
            b'\t' => shown.push_str("\\t"),
            b' '..=b'~' => {
                let character = char::from(*byte);
                if character == quote {
                    shown.push('\\');
                }
                shown.push(character);
            }
            other => shown.push_str(&format!("\\x{other:02x}")),
        }
    }
    shown.push(quote);
    shown
}
