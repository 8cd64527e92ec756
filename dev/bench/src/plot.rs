//! Bars, as SVG that reads on a light and on a dark page.

use std::fmt::Write as _;

use crate::section::Plot;

const BAR: f64 = 26.0;
const GAP: f64 = 12.0;
const LABEL: f64 = 250.0;
const WIDTH: f64 = 420.0;
const TOP: f64 = 44.0;

/// Draws it.
pub(crate) fn svg(plot: &Plot) -> String {
    let most = plot.bars.iter().map(|(_, value)| *value).fold(f64::MIN_POSITIVE, f64::max);
    let count = u32::try_from(plot.bars.len()).map_or(0.0, f64::from);
    let (width, height) = (LABEL + WIDTH + 110.0, TOP + count * (BAR + GAP) + 8.0);
    let mut drawn = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" role=\"img\" \
         font-family=\"system-ui, sans-serif\" font-size=\"14\">\n<title>{}</title>\n<style>text {{ fill: #24292f }} \
         .bar {{ fill: #8c959f }} .own {{ fill: #0969da }} @media (prefers-color-scheme: dark) {{ text {{ fill: #e6edf3 }} \
         .own {{ fill: #58a6ff }} }}</style>\n<text x=\"8\" y=\"24\" font-weight=\"600\">{}</text>\n",
        escaped(&plot.title),
        escaped(&plot.title)
    );
    let mut y = TOP;
    for (label, value) in &plot.bars {
        let long = (value / most * WIDTH).max(1.0);
        let class = if is_other(label) { "bar" } else { "own" };
        let middle = y + BAR / 2.0 + 5.0;
        // Writing into a String cannot fail.
        let _ = write!(
            drawn,
            "<text x=\"{:.0}\" y=\"{middle:.0}\" text-anchor=\"end\">{}</text>\n<rect class=\"{class}\" x=\"{LABEL}\" \
             y=\"{y:.0}\" width=\"{long:.1}\" height=\"{BAR}\" rx=\"3\"/>\n<text x=\"{:.0}\" y=\"{middle:.0}\">{}</text>\n",
            LABEL - 10.0,
            escaped(label),
            LABEL + long + 8.0,
            figure(*value)
        );
        y += BAR + GAP;
    }
    drawn.push_str("</svg>\n");
    drawn
}

/// What walpost is compared with.
fn is_other(label: &str) -> bool {
    ["pg_recvlogical", "poller"].iter().any(|other| label.starts_with(other))
}

fn figure(value: f64) -> String {
    match value {
        value if value >= 1_000.0 => {
            let thousands = (value / 1_000.0).floor();
            format!("{thousands:.0},{:03.0}", value - thousands * 1_000.0)
        }
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
