import klingflow_toy

from klingflow.core.model import TaskId
from klingflow.providers.base import Accepted, Answer, Busy
from klingflow.testing import ProviderSuite


class TestToy(ProviderSuite):
    provider = klingflow_toy


def test_an_order_that_was_taken_names_its_task_and_where_it_is_asked_after() -> None:
    said = klingflow_toy.accepted(Answer(status=202, body=b'{"id": "v-1", "status_url": "/v1/videos/v-1"}'))
    assert isinstance(said, Accepted)
    assert (said.task, said.urls) == (TaskId("v-1"), {"status": "/v1/videos/v-1"})


def test_a_second_order_of_one_id_is_refused_by_the_seller_and_looked_up() -> None:
    assert isinstance(klingflow_toy.accepted(Answer(status=409)), Busy)
