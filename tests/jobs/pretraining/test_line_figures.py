"""A line of metrics.jsonl keeps the losses of causal and other steps apart."""

from bertlite_jax.jobs.pretraining.line_figures import LineFigures

MASKED = {"loss": 5.0, "mlm_loss": 4.0, "grad_norm": 1.0}
CAUSAL = {"loss": 9.0, "causal_loss": 9.0, "causal_accuracy": 0.1, "grad_norm": 2.0}


def test_a_causal_step_adds_its_figures_once_and_changes_no_other():
    figures = LineFigures({})
    figures.add(MASKED, causal=False)
    assert figures.take() == MASKED
    figures.add(CAUSAL, causal=True)
    assert figures.take() == MASKED | {"causal_loss": 9.0, "causal_accuracy": 0.1}
    assert figures.take() == MASKED


def test_the_newest_of_each_kind_is_told():
    figures = LineFigures({})
    for loss in (3.0, 2.0):
        figures.add(CAUSAL | {"causal_loss": loss}, causal=True)
        figures.add(MASKED | {"loss": loss}, causal=False)
    assert figures.take() == MASKED | {"loss": 2.0, "causal_loss": 2.0, "causal_accuracy": 0.1}


def test_another_process_goes_on_with_what_was_stored():
    figures = LineFigures({})
    figures.add(MASKED, causal=False)
    figures.add(CAUSAL, causal=True)
    assert LineFigures(figures.stored()).take() == figures.take()
