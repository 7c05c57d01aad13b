"""An offline evaluation with the stand-in segmenter, for all who test what it leaves."""

from rt_panoptic_core.bags.annotate import result_topics
from rt_panoptic_core.bags.answers import EngineAnswers
from rt_panoptic_core.bags.conclude import conclude
from rt_panoptic_core.bags.output import OutputFolder
from rt_panoptic_core.bags.reader import BagReader
from rt_panoptic_core.bags.run import EvaluationPlan, EvaluationRun
from rt_panoptic_core.bags.survey import survey
from rt_panoptic_core.bags.truths import open_truths

ABOUT = {"bag": {"name": "drive"}, "model": {"name": "by heart"}, "mode": "offline"}


def evaluate(path, folder, street, *, topics=("/camera/image",), answers=None, plan=None, **begin):
    """The report of an offline evaluation with the stand-in segmenter."""
    topics = list(topics)
    output = OutputFolder(folder)
    with BagReader(path) as reader:
        truths, _ = open_truths(reader, topics, street.taxonomy)
        output.begin({"bag": path.name}, result_topics(topics), **begin)
        if answers is None:
            done = output.interrupted(result_topics(topics), street.taxonomy)
            answers = EngineAnswers(street, done=done)
        looks = survey(reader, topics)
        run = EvaluationRun(
            reader, looks, answers, street.taxonomy, truths, output, plan or EvaluationPlan()
        )
        run.run()
        report = conclude(
            output,
            list(run.analyses.values()),
            street.taxonomy,
            ABOUT,
            fps={look.topic: look.fps for look in looks},
            damage=reader.damage,
            timing=getattr(answers, "timing", None),
        )
        output.finish()
        for truth in truths.values():
            truth.close()
    return report
