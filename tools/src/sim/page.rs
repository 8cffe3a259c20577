//! What a sweep did, as a page to look at.

use super::story::Story;
use super::sweep::Sweep;
use super::{missing, scenario_words};
use paritas::sim::Scenario;

const HEAD: &str = "<!doctype html>
<html lang=\"en\">
<meta charset=\"utf-8\">
<meta name=\"viewport\" content=\"width=device-width\">
<title>paritas sim</title>
<style>
  body { font: 16px/1.5 system-ui, sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
  table { border-collapse: collapse; }
  td, th { padding: 0.1em 1em 0.1em 0; text-align: left; }
  td.count { text-align: right; font-variant-numeric: tabular-nums; }
  .bad { color: #b00020; }
  .good { color: #1b6e1b; }
  pre { overflow-x: auto; background: #8881; padding: 1em; }
  @media (prefers-color-scheme: dark) {
    body { background: #16181c; color: #ddd; }
    .bad { color: #ff7a85; }
    .good { color: #7ad07a; }
  }
</style>
";

/// The whole page.
pub(super) fn page(scenario: Scenario, sweep: &Sweep, stories: &[Story]) -> String {
    let seeds = sweep.traces.len();
    let failed = sweep.failures.len();
    let verdict = if failed == 0 { "good" } else { "bad" };
    let mut page = format!(
        "{HEAD}<h1>paritas sim, scenario {scenario}</h1>\n\
         <p><b class=\"{verdict}\">{failed} of {seeds} seeds failed</b>, {:.1} a second, trace {:016x}.</p>\n",
        seeds as f64 / sweep.seconds.max(1e-9),
        sweep.trace()
    );
    if failed > 0 {
        page.push_str("<h2>Failures</h2>\n<table>\n<tr><th>seed</th><th>what</th><th>repeat it</th></tr>\n");
        for (seed, what) in &sweep.failures {
            let words = scenario_words(scenario);
            page.push_str(&format!(
                "<tr><td class=\"count\">{seed}</td><td>{}</td>\
                 <td><code>paritas sim --seeds 1 --seed {seed}{words}</code></td></tr>\n",
                escaped(what)
            ));
        }
        page.push_str("</table>\n");
    }
    for story in stories {
        let seed = story.script.seed;
        let (script, story) = (escaped(&story.script.to_string()), escaped(&story.to_string()));
        page.push_str(&format!(
            "<h2>Seed {seed}, as small as it gets</h2>\n<pre>{story}</pre>\n\
             <details><summary>to replay</summary>\n<pre>{script}</pre></details>\n"
        ));
    }
    page.push_str("<h2>What happened</h2>\n<table>\n");
    for (event, count) in &sweep.counts {
        page.push_str(&format!("<tr><td class=\"count\">{count}</td><td>{}</td></tr>\n", escaped(event)));
    }
    page.push_str("</table>\n");
    for event in missing(sweep) {
        page.push_str(&format!("<p class=\"bad\">{} never happened.</p>\n", escaped(event)));
    }
    page.push_str("</html>\n");
    page
}

/// Text in which nothing is taken for a tag.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_says_what_failed_what_happened_and_what_never_did() {
        let mut sweep = Sweep::default();
        sweep.failures.insert(7, "block <1> & block 2".into());
        sweep.traces.insert(7, 1);
        sweep.counts.insert("rot".into(), 12);
        let page = page(Scenario::Rot, &sweep, &[]);
        for part in [
            "1 of 1 seeds failed",
            "block &lt;1&gt; &amp; block 2",
            "--seed 7 --scenario rot<",
            ">12</td><td>rot<",
            ">hang never happened.<",
        ] {
            assert!(page.contains(part), "{part} is not in {page}");
        }
        assert!(!page.contains("rot never happened"));
    }
}
