//! `--name value` pairs, which is all that the two references take.

use std::collections::HashMap;

/// The values given on the command line, by flag name without its dashes.
pub struct Flags(HashMap<String, String>);

impl Flags {
    /// Reads `--name value` pairs; anything else is an error in one sentence.
    pub fn parse(mut words: impl Iterator<Item = String>, known: &[&str]) -> Result<Self, String> {
        let mut values = HashMap::new();
        while let Some(word) = words.next() {
            let name = word
                .strip_prefix("--")
                .filter(|name| known.contains(name))
                .ok_or_else(|| format!("`{word}` is not one of --{}", known.join(", --")))?;
            let value = words.next().ok_or_else(|| format!("`{word}` needs a value"))?;
            values.insert(name.to_owned(), value);
        }
        Ok(Self(values))
    }

    /// The value of `name`, where it was given.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The value of `name`, or an error that names it.
    pub fn required(&self, name: &str) -> Result<&str, String> {
        self.get(name).ok_or_else(|| format!("`--{name}` is missing"))
    }

    /// The value of `name` as a number, or `default` where it was not given.
    pub fn number(&self, name: &str, default: usize) -> Result<usize, String> {
        self.0.get(name).map_or(Ok(default), |text| {
            text.parse().map_err(|_| format!("`--{name} {text}` is not a whole number"))
        })
    }

    /// The value of `name`, or `default`.
    pub fn text<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        self.get(name).unwrap_or(default)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Flags, String> {
        Flags::parse(words.iter().map(|w| (*w).to_owned()), &["port", "threads"])
    }

    #[test]
    fn pairs_are_read_and_strangers_refused() {
        let flags = parse(&["--port", "80"]).unwrap();
        assert_eq!(flags.number("port", 1), Ok(80));
        assert_eq!(flags.number("threads", 2), Ok(2));
        assert!(flags.required("threads").is_err());
        assert!(parse(&["--colour", "red"]).is_err());
        assert!(parse(&["--port"]).is_err());
        assert!(parse(&["--port", "x"]).unwrap().number("port", 1).is_err());
    }
}
