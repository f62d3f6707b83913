import json

from worldmodel.training.ablations.page import Order, order_agreement, order_lines, orders, paper_order, write_table
from worldmodel.training.ablations.papers import PAPER

MACHINE = {"cpu": "a processor", "cores": 2, "torch": "2", "date": "2026-01-01"}
ABOUT = {
    "preset": "smoke",
    "seed": 3,
    "samples": 16,
    "samplings": 1,
    "steps": 2000,
    "env_id": "VideoGenReal-Doom",
    "command": "videogen-dream ablate depth",
    "machine": MACHINE,
    "floor": {"idm_fd": 0.125},
    "floor_source": "of 7 other episodes",
}


def rows(**metrics):
    """Rows of table "depth" with these numbers, in its order."""
    names = list(PAPER["depth"])
    return [
        {"name": name, "here": f"{name} layers", "metrics": {metric: values[i] for metric, values in metrics.items()}}
        for i, name in enumerate(names)
    ]


def test_a_paper_distinguishes_rows_that_differ_by_more_than_both_spreads():
    pairs = paper_order("depth", "fvd")  # 120.4 ± 6, 110 ± 2.4, 103.3 ± 2.2, 103.6 ± 2
    assert sorted(pairs) == [("16", "2"), ("16", "4"), ("4", "2"), ("8", "2"), ("8", "4")]
    assert len(paper_order("depth", "bits_per_code")) == 6
    assert paper_order("transformer", "fvd") == [("full", "axial")]
    assert paper_order("transformer", "nmse") == []


def test_agreement_counts_the_pairs_in_the_papers_order():
    pairs = [("a", "b"), ("a", "c"), ("b", "c")]
    assert order_agreement(pairs, {"a": 1.0, "b": 2.0, "c": 3.0}) == Order(3, 3, ())
    assert order_agreement(pairs, {"a": 2.0, "b": 1.0, "c": 3.0}) == Order(2, 3, (("a", "b"),))
    assert order_agreement(pairs, {"a": 1.0, "b": 1.0}) == Order(0, 1, (("a", "b"),))
    assert order_agreement(pairs, {"c": 1.0}) == Order(0, 0, ())


def test_the_order_is_reported_per_metric_and_without_i3d_only_for_the_stand_in():
    found = orders("depth", rows(bits_per_code=[4.0, 3.0, 2.0, 1.0], idm_fd=[1.0, 2.0, 3.0, 4.0]))
    assert found["bits_per_code"]["bits_per_code"] == Order(6, 6, ())
    assert found["fvd"]["idm_fd"].agreeing == 0 and found["fvd"]["fvd"].pairs == 0
    lines = order_lines(found)
    assert any("6 of 6 pairs that the paper distinguishes agree." in line for line in lines)
    assert any("FVD (here): not compared, no I3D file was given" in line for line in lines)
    assert any('"8" is not below "4"' in line for line in lines)


def test_the_page_holds_the_papers_figures_beside_ours(tmp_path):
    results = ABOUT | {"rows": rows(bits_per_code=[4.0, 3.0, 2.0, 1.0], idm_fd=[1.0, 2.0, 3.0, 4.0])}
    page = write_table(tmp_path, "depth", results)
    assert page == (tmp_path / "depth.md").read_text()
    assert "| 2 | 2 layers | 120.4 ± 6 | absent | 1.000 | 2.84 | 4.000 |" in page
    assert "| 16 | 16 layers | 103.6 ± 2 | absent | 4.000 | 2.05 | 1.000 |" in page
    assert all(word in page for word in ("seed 3", "a processor", "ablate depth", "IDM-FD 0.125", "VideoGPT table 4"))
    written = json.loads((tmp_path / "depth.json").read_text())
    assert written["rows"][0]["paper"]["fvd"] == [120.4, 6.0] and written["seed"] == 3
    assert written["order"]["bits_per_code"]["bits_per_code"]["agreeing"] == 6


def test_a_failed_row_says_so_and_the_others_are_kept(tmp_path):
    made = rows(bits_per_code=[4.0, 3.0, 2.0, 1.0])
    made[1] |= {"metrics": {}, "failed": "prior-x failed"}
    page = write_table(tmp_path, "depth", ABOUT | {"rows": made})
    assert "| 4 | 4 layers | 110 ± 2.4 | failed | failed | 2.52 | failed |" in page and "- 4: prior-x failed" in page
    assert "3 of 3 pairs" in page


def test_rows_that_only_the_paper_has_are_shown_without_ours(tmp_path):
    row = {"name": "1x64x64", "here": "not trained", "metrics": {}}
    page = write_table(tmp_path, "latents", ABOUT | {"rows": [row]})
    assert "| 1x64x64 | not trained | 41.6 | — | — | 126.7 ± 3.1 | — | — | 98.1 ± 3.6 | — | — |" in page


def test_words_of_the_paper_stand_in_for_missing_figures(tmp_path):
    made = [
        {"name": "full", "here": "full", "metrics": {"idm_fd": 1.0}},
        {"name": "axial", "here": "axial", "metrics": {"idm_fd": 2.0}},
    ]
    page = write_table(tmp_path, "transformer", ABOUT | {"rows": made})
    assert "| full | full | — | absent | 1.000 |" in page and "in words only" in page
    assert "FVD (paper) and IDM-FD (here): 1 of 1 pair that the paper distinguishes agree." in page


def test_the_page_says_where_the_floor_comes_from_or_why_there_is_none(tmp_path):
    results = ABOUT | {"rows": rows(idm_fd=[1.0, 2.0, 3.0, 4.0])}
    page = write_table(tmp_path, "depth", results)
    assert "Other real clips, of 7 other episodes, against the same real clips: IDM-FD 0.125, the floor" in page
    page = write_table(tmp_path, "depth", results | {"floor": {}, "floor_source": "only 2 other clips"})
    assert "These distances have no floor: only 2 other clips." in page


def test_distances_of_several_draws_carry_their_deviation(tmp_path):
    made = rows(idm_fd=[1.0, 2.0, 3.0, 4.0], idm_fd_deviation=[0.5, 0.25, 0.125, 0.0])
    page = write_table(tmp_path, "depth", ABOUT | {"rows": made, "samplings": 10})
    assert "| 2 | 2 layers | 120.4 ± 6 | absent | 1.000 ± 0.500 |" in page and "means over 10 draws" in page
    assert "means over" not in write_table(tmp_path, "depth", ABOUT | {"rows": made})


def test_the_papers_seconds_stand_beside_ours(tmp_path):
    made = [
        {"name": name, "here": name, "metrics": {"seconds_per_clip": seconds}}
        for name, seconds in (("query-key", 0.5), ("key", 0.25), ("relative", 0.75))
    ]
    page = write_table(tmp_path, "lvt-attention", ABOUT | {"rows": made})
    assert "| seconds per clip sampled, paper | seconds per clip sampled |" in page
    for name, theirs, ours in (("query-key", 35, "0.50"), ("key", 32, "0.25"), ("relative", 30, "0.75")):
        assert any(
            line.startswith(f"| {name} |") and line.endswith(f"| {theirs} | {ours} |") for line in page.split("\n")
        )
    assert "seconds per clip sampled (here): 1 of 3 pairs" in page and "on a V100" in page


def test_psnr_of_each_predicted_frame_is_a_table_of_its_own(tmp_path):
    made = [
        {"name": "VideoGen", "here": "VideoGen, 1 given frame", "metrics": {"psnr_by_frame": [20.04, 19.0, 18.0]}},
        {"name": "copy", "here": "copy", "metrics": {"psnr_by_frame": [30.0, 29.0, 28.0]}},
        {"name": "deaf", "here": "deaf", "metrics": {"idm_fd": 1.0}},
    ]
    page = write_table(tmp_path, "papers", ABOUT | {"rows": made})
    assert "| PSNR in dB of frame | 14 | 15 | 16 |" in page and "| copy | 30.0 | 29.0 | 28.0 |" in page
    assert "| VideoGen, 1 given frame | 20.0 | 19.0 | 18.0 |" in page and "| deaf | 1.000 |" in page
    assert "PSNR in dB" not in write_table(tmp_path, "papers", ABOUT | {"rows": made[2:]})


def test_a_table_without_figures_of_its_paper_has_one_part(tmp_path):
    made = [{"name": "VideoGen", "here": "VideoGen, 1 given frame", "metrics": {"idm_fd": 1.0, "copy_bits": 2.5}}]
    page = write_table(tmp_path, "papers", ABOUT | {"rows": made})
    assert "| VideoGen, 1 given frame | 1.000 | 2.500 |" in page
    assert "paper's row" not in page and "What else" not in page and "# papers: what differs" in page
