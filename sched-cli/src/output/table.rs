//! Columns that line up. On a terminal a row is one line: what does not fit is left out or cut; in a pipe all is there.

use super::{line, painted, screen};

/// What the last column keeps, so that it still says something.
const LEAST: usize = 12;
const BETWEEN: usize = 2;

/// Prints columns that line up.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) {
    table_without(head, rows, &[]);
}

/// Prints columns that line up; on a terminal that is too narrow without these columns, the first of them first.
pub(crate) fn table_without(head: &[&str], rows: &[Vec<String>], spared: &[usize]) {
    for text in laid_out(head, rows, spared, screen().width) {
        line(&text);
    }
}

fn laid_out(head: &[&str], rows: &[Vec<String>], spared: &[usize], width: Option<usize>) -> Vec<String> {
    let all = || std::iter::once(head.to_vec()).chain(rows.iter().map(|row| row.iter().map(String::as_str).collect()));
    let needs: Vec<usize> = (0..head.len())
        .map(|column| all().map(|row: Vec<&str>| row.get(column).map_or(0, |cell| cell.chars().count())).max())
        .map(Option::unwrap_or_default)
        .collect();
    let mut columns: Vec<usize> = (0..head.len()).collect();
    let last = head.len().saturating_sub(1);
    let before_last = |columns: &[usize]| -> usize {
        columns.iter().filter(|column| **column != last).map(|column| needs[*column] + BETWEEN).sum()
    };
    let width = width.unwrap_or(usize::MAX);
    for column in spared {
        if before_last(&columns) + needs[last].min(LEAST) > width {
            columns.retain(|kept| kept != column);
        }
    }
    let left = width.saturating_sub(before_last(&columns)).max(needs[last].min(LEAST));
    let row = |cells: Vec<&str>| {
        let cell = |column: &usize| {
            let cell = cells.get(*column).copied().unwrap_or_default();
            if *column == last { painted(&cut(cell, left), 0) } else { painted(cell, needs[*column] + BETWEEN) }
        };
        columns.iter().map(cell).collect::<String>().trim_end().to_owned()
    };
    all().map(row).collect()
}

/// As much of a text as fits.
fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        text.to_owned()
    } else {
        text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        vec![row(["a", "schedule", "a note that is long"]), row(["größer", "manual", ""])]
    }

    #[test]
    fn columns_line_up_and_a_pipe_gets_all_of_them() {
        let text = laid_out(&["ONE", "TWO", "NOTE"], &rows(), &[1], None);
        assert_eq!(text, ["ONE     TWO       NOTE", "a       schedule  a note that is long", "größer  manual"]);
    }

    #[test]
    fn on_a_terminal_the_last_column_is_cut_and_what_can_be_spared_is_left_out() {
        let text = laid_out(&["ONE", "TWO", "NOTE"], &rows(), &[1], Some(30));
        assert_eq!(text, ["ONE     TWO       NOTE", "a       schedule  a note that…", "größer  manual"]);
        let text = laid_out(&["ONE", "TWO", "NOTE"], &rows(), &[1], Some(25));
        assert_eq!(text, ["ONE     NOTE", "a       a note that is l…", "größer"]);
    }
}
