//! The nearest known word to a mistyped one.

use super::command::Command;
use super::flag::Flag;

/// A line `Did you mean '--x'?` when a flag is near, else nothing.
pub fn flag(groups: &[&[Flag]], given: &str) -> String {
    let names = groups
        .iter()
        .flat_map(|group| group.iter())
        .filter(|f| !f.hidden)
        .map(|f| f.long);
    nearest(given, names)
        .map(|name| format!("Did you mean '--{name}'?\n"))
        .unwrap_or_default()
}

/// The same for a command.
pub fn command(commands: &[&'static Command], given: &str) -> String {
    let names = commands.iter().filter(|c| !c.hidden).map(|c| c.name);
    nearest(given, names)
        .map(|name| format!("Did you mean '{name}'?\n"))
        .unwrap_or_default()
}

fn nearest<'a>(given: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = match given.chars().count() {
        0..=2 => 0,
        3..=5 => 2,
        _ => 3,
    };
    names
        .map(|name| {
            // Someone who stopped typing early is nearer than the number of missing letters says.
            let distance = if given.len() > 2 && name.starts_with(given) {
                1
            } else {
                distance(given, name)
            };
            (distance, name)
        })
        .filter(|(distance, name)| *distance <= limit && *distance < name.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// Edits (insert, delete, replace, swap of neighbours) from one word to the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) =
        (a.chars().take(64).collect(), b.chars().take(64).collect());
    let width = b.len() + 1;
    let mut table = vec![0usize; (a.len() + 1) * width];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            let at = i * width + j;
            if i == 0 || j == 0 {
                table[at] = i + j;
                continue;
            }
            let replace = table[at - width - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replace.min(table[at - width] + 1).min(table[at - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(table[at - 2 * width - 2] + 1);
            }
            table[at] = best;
        }
    }
    table[a.len() * width + b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        let names = ["run", "rename", "restart", "publish", "name"];
        let find = |word| nearest(word, names.iter().copied());
        assert_eq!(find("rnu"), Some("run"));
        assert_eq!(find("publsh"), Some("publish"));
        assert_eq!(find("nam"), Some("name"));
        assert_eq!(find("xyzzy"), None);
        assert_eq!(find("x"), None);
    }
}
