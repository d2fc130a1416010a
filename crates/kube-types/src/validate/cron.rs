//! Schedules of five fields, as cron writes them.

/// What is wrong with a schedule, in the words of the original's parser.
pub fn fault(schedule: &str) -> Option<String> {
    if schedule.len() > 1_024 {
        return Some("the schedule is too long".to_owned());
    }
    let mut text = schedule;
    if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
        text = text.split_once(' ').map_or("", |(_, rest)| rest).trim();
    }
    if let Some(word) = text.strip_prefix('@') {
        let named = [
            "yearly", "annually", "monthly", "weekly", "daily", "midnight", "hourly",
        ];
        if named.contains(&word) || word.strip_prefix("every ").is_some_and(|d| !d.is_empty()) {
            return None;
        }
        return Some(format!("unrecognized descriptor: {text}"));
    }
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Some(format!(
            "expected exactly 5 fields, found {}: [{}]",
            fields.len(),
            fields.join(" ")
        ));
    }
    const BOUNDS: [(u32, u32, &[&str]); 5] = [
        (0, 59, &[]),
        (0, 23, &[]),
        (1, 31, &[]),
        (
            1,
            12,
            &[
                "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec",
            ],
        ),
        (0, 6, &["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
    ];
    fields
        .iter()
        .zip(BOUNDS)
        .find_map(|(field, (low, high, names))| {
            field
                .split(',')
                .find_map(|part| range(part, low, high, names))
        })
}

fn range(part: &str, low: u32, high: u32, names: &[&str]) -> Option<String> {
    let (span, step) = match part.split_once('/') {
        Some((span, step)) => (span, Some(step)),
        None => (part, None),
    };
    let number = |text: &str| -> Result<u32, String> {
        if let Some(at) = names.iter().position(|n| n.eq_ignore_ascii_case(text)) {
            return Ok(at as u32 + low.min(1));
        }
        text.parse().map_err(|_| {
            format!(
                "failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax"
            )
        })
    };
    let bounds = match span.split_once('-') {
        _ if span == "*" || span == "?" => Ok((low, high)),
        Some((from, to)) => number(from).and_then(|from| number(to).map(|to| (from, to))),
        None => number(span).map(|n| (n, if step.is_some() { high } else { n })),
    };
    let (from, to) = match bounds {
        Ok(bounds) => bounds,
        Err(fault) => return Some(fault),
    };
    if from < low {
        return Some(format!(
            "beginning of range ({from}) below minimum ({low}): {part}"
        ));
    }
    if to > high {
        return Some(format!(
            "end of range ({to}) above maximum ({high}): {part}"
        ));
    }
    if from > to {
        return Some(format!(
            "beginning of range ({from}) beyond end of range ({to}): {part}"
        ));
    }
    match step.map(number) {
        Some(Err(fault)) => Some(fault),
        Some(Ok(0)) => Some(format!("step of range should be a positive number: {part}")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::fault;

    #[test]
    fn schedules_are_read() {
        for good in [
            "* * * * *",
            "*/5 0-6 1,15 jan-mar sun",
            "@hourly",
            "@every 1h",
            "0 0 ? * 1-5",
        ] {
            assert_eq!(fault(good), None, "{good}");
        }
        for bad in [
            "",
            "* * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "a * * * *",
            "@often",
            "* * * * * *",
        ] {
            assert!(fault(bad).is_some(), "{bad}");
        }
        assert_eq!(
            fault("error").as_deref(),
            Some("expected exactly 5 fields, found 1: [error]")
        );
    }
}
