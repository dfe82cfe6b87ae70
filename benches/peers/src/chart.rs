//! The chart: for some workloads, a bar for each contestant, as long as it is fast to blocking libzmq.

use std::fmt::Write;

use crate::contestant::Contestant;
use crate::results::{Results, Row};

const WIDTH: f64 = 880.0;
/// Where the bars begin, and how long one of speed 1 is.
const LEFT: f64 = 200.0;
const UNIT: f64 = 280.0;
/// Longer ones are cut off there; the figure beside them is not.
const MOST: f64 = 2.0;
const BAR: f64 = 13.0;
const GAP: f64 = 18.0;
const TOP: f64 = 74.0;

pub fn svg(results: &Results) -> String {
    let mut workloads: Vec<&str> = Vec::new();
    for row in results.rows.iter().filter(|row| row.of.0.is_charted()) {
        if !workloads.contains(&row.workload.as_str()) {
            workloads.push(&row.workload);
        }
    }
    let mut body = String::new();
    let mut y = TOP;
    for workload in workloads {
        let mut rows = results.rows.iter().filter(|row| row.workload == workload).peekable();
        let title = rows.peek().map(|row| row.of.0.title()).unwrap_or_default();
        let _ = writeln!(body, r#"<text class="head" x="16" y="{}">{title}</text>"#, y + BAR);
        y += BAR + 8.0;
        for row in rows.filter(|row| row.of.1 != Contestant::Blocking) {
            y = bar(&mut body, row, y);
        }
        y += GAP;
    }
    let (line, end) = (LEFT + UNIT, y);
    let _ = writeln!(body, r#"<line class="one" x1="{line}" x2="{line}" y1="{}" y2="{end}"/>"#, TOP - 8.0);
    let _ = writeln!(
        body,
        r#"<text class="head" x="{line}" y="{}" text-anchor="middle">1.0: libzmq, blocking</text>"#,
        TOP - 14.0
    );
    let height = end + 16.0;
    format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img">
<title>Speed of each contestant to libzmq called by hand in blocking calls</title>
<style>
svg {{ font: 12px system-ui, sans-serif; }}
text {{ fill: #1f2328; }}
.head {{ font-weight: 600; }}
.title {{ font-size: 16px; font-weight: 600; }}
.page {{ fill: #ffffff; }}
.one {{ stroke: #1f2328; stroke-width: 1.5; }}
@media (prefers-color-scheme: dark) {{
text {{ fill: #e6edf3; }}
.page {{ fill: #0d1117; }}
.one {{ stroke: #e6edf3; }}
}}
</style>
<rect class="page" width="100%" height="100%"/>
<text class="title" x="16" y="28">Speed to libzmq called by hand: longer is faster</text>
{body}</svg>
"#
    )
}

/// Draws a bar, and says where the next one goes.
fn bar(body: &mut String, row: &Row, y: f64) -> f64 {
    if row.remark == Some("not possible") {
        return y;
    }
    let baseline = y + BAR - 3.0;
    let _ = writeln!(body, r#"<text x="{}" y="{baseline}" text-anchor="end">{}</text>"#, LEFT - 8.0, row.of.1.title());
    if let Some(speed) = row.speed {
        let width = speed.min(MOST) * UNIT;
        let color = color(row.of.1);
        let height = BAR - 2.0;
        let _ = writeln!(body, r#"<rect x="{LEFT}" y="{y}" width="{width:.1}" height="{height}" fill="{color}"/>"#);
    }
    let label = match (row.speed, row.remark) {
        (Some(speed), None) if speed >= 10.0 => format!("{speed:.0}"),
        (Some(speed), None) => format!("{speed:.2}"),
        (Some(speed), Some(remark)) => format!("{speed:.2}, then {remark}"),
        (None, remark) => remark.unwrap_or_default().to_owned(),
    };
    // In a column of their own, where no bar and no line crosses them.
    let _ = writeln!(body, r#"<text x="{}" y="{baseline}">{label}</text>"#, LEFT + MOST * UNIT + 10.0);
    y + BAR + 2.0
}

/// Ours in one hue, libzmq by hand in grey, the others apart from both; all seen on white and on black.
fn color(contestant: Contestant) -> &'static str {
    match contestant {
        Contestant::OursTasks => "#1158c7",
        Contestant::OursExecutor => "#1f6feb",
        Contestant::OursBlockOn => "#58a6ff",
        Contestant::Blocking | Contestant::Epoll => "#8b949e",
        Contestant::Tmq => "#d29922",
        Contestant::TmqBuffered => "#e3b341",
        Contestant::AsyncZmq => "#bf8700",
        Contestant::Zeromq => "#db6d28",
        Contestant::Pyzmq => "#2da44e",
    }
}
