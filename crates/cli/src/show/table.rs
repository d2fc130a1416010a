//! Lists in every form that `--format` knows: `table`, `json`, `raw`, a template, a template for a table.

use std::rc::Rc;

use crate::failure::Failure;
use crate::template::Template;
use crate::template::tabwriter;
use crate::template::value::Value;

/// How a kind of list is shown.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// Columns when no format is given.
    pub table: &'static str,
    /// Template when only IDs are wanted.
    pub quiet: &'static str,
    /// Template of the form `raw`.
    pub raw: &'static str,
    /// Field → heading.
    pub headings: &'static [(&'static str, &'static str)],
}

impl Layout {
    /// The template text for what the user asked for.
    pub fn format(&self, wanted: &str, quiet: bool) -> String {
        match wanted {
            "" | "table" if quiet => self.quiet.to_owned(),
            "" | "table" => format!("table {}", self.table),
            "json" => "{{json .}}".to_owned(),
            "raw" if quiet => self.raw.lines().next().unwrap_or_default().to_owned(),
            "raw" => self.raw.to_owned(),
            other => other.to_owned(),
        }
    }

    /// Renders `rows` by a template from [`Layout::format`].
    pub fn render(&self, format: &str, rows: &[Value]) -> Result<String, Failure> {
        let is_table = format.starts_with("table");
        let text = format
            .strip_prefix("table")
            .unwrap_or(format)
            .trim_matches(' ');
        let text = text.replace("\\t", "\t").replace("\\n", "\n");
        let mut template = Template::parse(&text)
            .map_err(|why| Failure::said(format!("failed to parse template: {why}")))?;
        let mut out = String::new();
        for row in rows {
            let line = template
                .render(row)
                .map_err(|why| Failure::said(format!("failed to execute template: {why}")))?;
            out.push_str(&line);
            out.push('\n');
        }
        if !is_table {
            return Ok(out);
        }
        template.heading = true;
        let heading = template
            .render(&self.heading())
            .map_err(|why| Failure::said(format!("failed to execute template: {why}")))?;
        Ok(tabwriter::layout(&format!("{heading}\n{out}")))
    }

    fn heading(&self) -> Value {
        let mut pairs: Vec<(String, Value)> = self
            .headings
            .iter()
            .map(|(field, heading)| (field.to_string(), Value::text(heading)))
            .collect();
        pairs.push(("Label".into(), Value::Method(Rc::new(label_heading))));
        Value::map(pairs)
    }
}

/// The heading of `.Label "a.b.c-d"` is `c d`.
fn label_heading(arguments: &[Value]) -> Result<Value, String> {
    let name = arguments
        .first()
        .and_then(Value::as_text)
        .ok_or("want 1 got 0")?;
    Ok(name
        .rsplit('.')
        .next()
        .unwrap_or_default()
        .replace(['-', '_'], " ")
        .into())
}

/// The method `.Label "name"` of a row.
pub fn label_method(labels: &Value) -> crate::template::value::Method {
    let labels = labels.clone();
    Rc::new(move |arguments: &[Value]| {
        let name = arguments
            .first()
            .and_then(Value::as_text)
            .ok_or("want 1 got 0")?;
        Ok(labels.get(name).cloned().unwrap_or_else(|| Value::text("")))
    })
}

/// `a=1,b=2` of a map of labels, sorted.
pub fn labels_text(labels: Option<&Value>) -> String {
    let mut pairs: Vec<String> = labels
        .map(Value::pairs)
        .unwrap_or_default()
        .iter()
        .map(|(name, value)| format!("{name}={}", value.as_text().unwrap_or_default()))
        .collect();
    pairs.sort();
    pairs.join(",")
}

/// An ID without its algorithm, cut to 12 digits unless all are wanted.
pub fn short_id(id: &str, whole: bool) -> String {
    if whole {
        return id.to_owned();
    }
    let id = id.rsplit_once(':').map_or(id, |(_, digits)| digits);
    id.chars().take(12).collect()
}

/// The text cut to `width` characters, the last being `…` when something was cut.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut out: String = text.chars().take(width.saturating_sub(1)).collect();
    out.push('…');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::value::Row;

    const LAYOUT: Layout = Layout {
        table: r"{{.ID}}\t{{.Name}}",
        quiet: "{{.ID}}",
        raw: "id: {{.ID}}\nname: {{.Name}}\n",
        headings: &[("ID", "CONTAINER ID"), ("Name", "NAMES")],
    };

    fn rows() -> Vec<Value> {
        let labels = Value::map(vec![("a.b-c".into(), "x".into())]);
        vec![
            Row::new("*formatter.ContainerContext")
                .with("ID", "1<")
                .with("Name", "n")
                .method("Label", label_method(&labels))
                .done(),
        ]
    }

    fn show(format: &str, quiet: bool) -> Result<String, String> {
        LAYOUT
            .render(&LAYOUT.format(format, quiet), &rows())
            .map_err(|e| e.to_string())
    }

    #[test]
    fn every_form() {
        assert_eq!(
            show("", false).unwrap(),
            "CONTAINER ID   NAMES\n1<             n\n"
        );
        assert_eq!(show("", true).unwrap(), "1<\n");
        assert_eq!(
            show("json", false).unwrap(),
            "{\"ID\":\"1\\u003c\",\"Name\":\"n\"}\n"
        );
        assert_eq!(show("raw", false).unwrap(), "id: 1<\nname: n\n\n");
        assert_eq!(
            show(r#"table {{.Label "a.b-c"}}\t{{upper .Name}}"#, false).unwrap(),
            "b c       NAMES\nx         N\n"
        );
        assert_eq!(show("{{.ID}} x", false).unwrap(), "1< x\n");
    }

    #[test]
    fn mistakes_in_dockers_words() {
        assert_eq!(
            show("{{.Foo}}", false).unwrap_err(),
            "failed to execute template: template: :1:2: executing \"\" at <.Foo>: can't evaluate field Foo in type *formatter.ContainerContext"
        );
        assert_eq!(
            show("{{.ID", false).unwrap_err(),
            "failed to parse template: template: :1: unclosed action"
        );
    }

    #[test]
    fn cutting() {
        assert_eq!(
            ellipsis("sh -c 'echo out; echo err >&2; exit 3'", 20),
            "sh -c 'echo out; ec…"
        );
        assert_eq!(short_id("sha256:0123456789abcdef", false), "0123456789ab");
    }
}
