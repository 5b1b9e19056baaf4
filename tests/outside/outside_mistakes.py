"""Callbacks with the mistakes of a beginner, to see which errors come."""

from ms_callbacks import TrainCallback

__all__ = ["ChangesItsArgument", "LearnsWithoutState", "ReadsEachStep", "override_a_hook"]


def override_a_hook():
    """Make a class that overrides MindSpore's hook as a beginner does who knows only MindSpore's callbacks."""

    class OverridesHook(TrainCallback):
        """Does at the beginning of training what belongs into `before_train`."""

        def on_train_begin(self, run_context):
            self.began_ = True

    return OverridesHook


class ChangesItsArgument(TrainCallback):
    """Counts down in its own argument.

    Args:
        left: the epochs to count.
    """

    def __init__(self, left):
        super().__init__()
        self.left = left

    def after_epoch(self, run, summary):
        self.left -= 1


class ReadsEachStep(TrainCallback):
    """Reads the loss in each step."""

    needs_losses = True

    def reset_state(self):
        self.highest_ = 0.0

    def before_train(self, run):
        run.step_hooks.on_step_end(self, self.read)

    def read(self, run):
        self.highest_ = max(self.highest_, run.losses.last)

    def state_dict(self):
        return {"highest": self.highest_}

    def load_state_dict(self, state):
        super().load_state_dict(state)
        self.highest_ = state["highest"]


class LearnsWithoutState(TrainCallback):
    """Counts epochs and tells nobody."""

    def reset_state(self):
        self.epochs_ = 0

    def after_epoch(self, run, summary):
        self.epochs_ += 1
