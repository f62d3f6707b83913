"""The progress bar counts from where a resumed job stands."""

import time

from worldmodel.progress import progress


def test_the_bar_shows_label_count_and_note_on_standard_error(capsys):
    with progress(10, "step", "training", initial=4) as bar:
        bar.note("loss 0.25")
        bar.update(6)
    output = capsys.readouterr()
    last = output.err.rstrip().split("\r")[-1]
    assert last.startswith("training: 100%")
    assert "10/10" in last
    assert "loss 0.25" in last
    assert output.out == ""


def test_a_log_file_gets_few_lines(capsys):
    with progress(3, "step", "training") as bar:
        for _ in range(3):
            time.sleep(0.21)  # a terminal would be repainted after each
            bar.update()
    assert capsys.readouterr().err.count("training") == 2  # at the start and at the end
