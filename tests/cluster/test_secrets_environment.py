"""`spec.jobs.environmentSecret` on a real node: a container sees what it would see without it."""

from __future__ import annotations

from tests.support.polling import poll

ENV = {
    "HOST": "db",
    "DOLLARS": "pa$$word costs 5$",
    "REFERS": "postgres://$(HOST)/$(UNKNOWN)/$$(HOST)",
    "LATER": "two\nlines, and ümläuts",
    "EMPTY": "",
}
SHOWN = '"$HOST|$DOLLARS|$REFERS|$LATER|$EMPTY|$PREFECT_API_URL"'


async def test_a_container_sees_the_same_environment_with_and_without_a_secret(
    api, kube, namespace, binding, operator, deploy
):
    await operator()
    served = await binding()
    await served.ready()
    deployment = await deploy("hello", env=ENV, command=f"sh -c 'echo {SHOWN}; exit 7'")

    async def shown() -> str:
        """Return what the container wrote, from the message of its run's end."""
        run = await api.create_run(deployment["id"])
        ended = await api.wait_for_state(run["id"], "CRASHED")
        message: str = ended["state"]["message"]
        return message[message.index("db|") :]

    plain = await shown()
    assert "db|pa$word costs 5$|postgres://db/$(UNKNOWN)/$(HOST)|two" in plain
    await served.patch(jobs={"environmentSecret": True})
    await served.ready()
    assert await shown() == plain
    (secret,) = await kube.list(
        "secrets", namespace, selector="workpool-operator.dev/secret=environment"
    )
    job = secret["metadata"]["ownerReferences"][0]["name"]
    (written,) = (j for j in await kube.list("jobs", namespace) if j["metadata"]["name"] == job)
    (container,) = written["spec"]["template"]["spec"]["containers"]
    kept = {entry["name"] for entry in container["env"] if entry.get("value")}
    assert kept == {"REFERS"}  # only the kubelet can put $(HOST) in
    await kube.delete("jobs", namespace, job)

    async def left() -> list:
        return await kube.list("secrets", namespace)

    await poll(left, until=lambda found: found == [], seconds=60)
