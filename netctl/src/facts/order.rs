//! The order in which people expect names: numbers in them by value.

/// Sorts `c9` before `c10`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Natural(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    /// Without leading zeros: the longer is the larger.
    Number(usize, String),
    Text(String),
}

impl Natural {
    pub fn of(text: &str) -> Self {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let digits = first.is_ascii_digit();
            let end = rest.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(rest.len());
            let (part, after) = rest.split_at(end);
            rest = after;
            parts.push(if digits {
                let number = part.trim_start_matches('0');
                Part::Number(number.len(), number.to_owned())
            } else {
                Part::Text(part.to_owned())
            });
        }
        Self(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_by_value() {
        let mut names = ["c10", "c9", "b", "c", "c010a", "10", "9", "c9a"];
        names.sort_by_key(|name| Natural::of(name));
        assert_eq!(names, ["9", "10", "b", "c", "c9", "c9a", "c10", "c010a"]);
    }
}
