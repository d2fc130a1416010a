//! Columns of text: cells end at tabs, and a column is as wide as its widest cell in adjoining lines.

/// Narrowest column.
const WIDTH_MIN: usize = 10;
/// Spaces after the widest cell.
const PADDING: usize = 3;

/// Lays out `text` with Docker's settings.
pub fn layout(text: &str) -> String {
    layout_with(text, WIDTH_MIN, PADDING)
}

/// Lays out `text`.
pub fn layout_with(text: &str, width_min: usize, padding: usize) -> String {
    let lines: Vec<Vec<&str>> = text
        .split('\n')
        .map(|line| line.split('\t').collect())
        .collect();
    let mut out = String::with_capacity(text.len() * 2);
    let columns = Columns {
        lines: &lines,
        width_min,
        padding,
    };
    columns.block(0, lines.len(), &mut Vec::new(), &mut out);
    // What followed the last line end is not a line.
    out.pop();
    out
}

struct Columns<'a> {
    lines: &'a [Vec<&'a str>],
    width_min: usize,
    padding: usize,
}

impl Columns<'_> {
    /// Writes lines `from..to`, whose first columns have `widths`.
    fn block(&self, from: usize, to: usize, widths: &mut Vec<usize>, out: &mut String) {
        let column = widths.len();
        let mut at = from;
        while at < to {
            // The last cell of a line isn't ended by a tab and so is in no column.
            if column + 1 >= self.lines[at].len() {
                self.line(at, widths, out);
                at += 1;
                continue;
            }
            let mut end = at;
            let mut width = self.width_min;
            while end < to && column + 1 < self.lines[end].len() {
                width = width.max(self.lines[end][column].chars().count() + self.padding);
                end += 1;
            }
            widths.push(width);
            self.block(at, end, widths, out);
            widths.pop();
            at = end;
        }
    }

    fn line(&self, at: usize, widths: &[usize], out: &mut String) {
        let cells = &self.lines[at];
        for (i, cell) in cells.iter().enumerate() {
            out.push_str(cell);
            if i + 1 < cells.len() {
                let width = widths.get(i).copied().unwrap_or(0);
                out.push_str(&" ".repeat(width.saturating_sub(cell.chars().count())));
            }
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::layout;

    #[test]
    fn columns_as_docker_shows_them() {
        assert_eq!(
            layout("DRIVER\tVOLUME NAME\nlocal\tv3\n"),
            "DRIVER    VOLUME NAME\nlocal     v3\n"
        );
        assert_eq!(
            layout("a\tb\t\nlonger than ten\t\tx\n"),
            "a                 b         \nlonger than ten             x\n"
        );
        assert_eq!(layout("no tabs\n\nx\ty\n"), "no tabs\n\nx         y\n");
    }
}
