"""List files: what dig sees of names that others list."""

import json
from pathlib import Path

from tests.internet import Internet, wait_until

DIG = ["dig", "+tries=1", "+time=8"]


def asking(*names: str) -> list[str]:
    return ["sh", "-c", "; ".join(f"{' '.join(DIG)} {name}" for name in names)]


FORMS = {
    "hosts file": ("# ours\n0.0.0.0 {}\n", 2),
    "plain names": ("{}\n", 1),
    "wildcards": ("! ours\n\n*.{}\n", 3),
    "AdBlock rules": ("[Adblock Plus 2.0]\n||{}^$third-party\n@@||www.test^\n", 2),
    "policy zone": ("$TTL 60\n@ SOA a. b. (1 2 3\n4 5)\n{} CNAME .\n", 4),
}
"""What lists a name in each form, and in which line."""


def test_listed_name_does_not_exist_and_the_answer_says_which_line(internet: Internet, folder: Path) -> None:
    expected, paths = [], []
    for index, (form, (content, line)) in enumerate(FORMS.items()):
        path, name = folder / form.replace(" ", "-"), f"n{index:03}.test"
        path.write_text(content.format(name))
        paths.append(str(path))
        expected.append(f'EDE: 15 (Blocked): (name-denied: deny.lists {path}:{line} "{name}")')
    names = [f"n{index:03}.test" for index in range(len(FORMS) + 1)]
    done = internet.netstack_exec(asking(*names, "www.test"), {"deny.lists": json.dumps(paths)}).ok()
    assert done.text.count("status: NXDOMAIN") == len(FORMS), done
    assert [said for said in expected if said not in done.text] == [], done
    # What no list has exists, such as the sixth of the names.
    assert done.text.count("status: NOERROR") == 2, done
    assert "198.18.1.10" in done.text, done


def test_allow_list_goes_before_deny_list(internet: Internet, folder: Path) -> None:
    (folder / "bad").write_text("||test^\n@@||v4.test^\n")
    (folder / "good").write_text("www.test\n")
    settings = {"deny.lists": f'["{folder}/bad"]', "allow.lists": f'["{folder}/good"]'}
    done = internet.netstack_exec([*DIG, "+short", "www.test", "v4.test", "echo4.test"], settings).ok()
    assert done.text.split() == ["198.18.1.10", "198.18.1.11"], done


def test_list_that_changes_holds_at_once_without_a_restart(internet: Internet, folder: Path) -> None:
    path = folder / "list"
    path.write_text("ads.test\n")
    with internet.sandbox({"deny.lists": f'["{path}"]'}) as sandbox:
        pid = sandbox.process("dns_filter")["pid"]
        assert sandbox.run([*DIG, "+short", "ads.test", "www.test"]).ok().text == "198.18.1.10\n"
        (folder / "new").write_text("www.test\nwhat is this\n")
        (folder / "new").rename(path)
        wait_until(lambda: sandbox.run([*DIG, "+short", "www.test"]).ok().text == "", 10, "the new list is in use")
        assert sandbox.run([*DIG, "+short", "ads.test"]).ok().text == "198.18.1.40\n"
        assert sandbox.process("dns_filter")["pid"] == pid
        status = json.loads(sandbox.netstack("status", "--json").text)
        assert '"name-denied"' in json.dumps(status)


def test_list_is_fetched_by_our_upstream_and_kept_for_a_start_without_its_server(internet: Internet) -> None:
    served = internet.directory / "files" / "ads.txt"
    served.write_text("0.0.0.0 ads.test\n")
    settings = {"deny.lists": '["https://www.test/ads.txt"]', "lists.tls_ca": str(internet.ca)}
    with internet.capture("tcp port 443") as capture:
        done = internet.netstack_exec(asking("ads.test"), settings).ok()
        fetched = [packet for packet in capture.stop() if packet.destination_port == 443]
    assert 'deny.lists https://www.test/ads.txt:1 "ads.test"' in done.text, done
    assert {packet.destination for packet in fetched} == {"198.18.1.10"}
    served.unlink()
    again = internet.netstack_exec(asking("ads.test"), settings).ok()
    assert 'deny.lists https://www.test/ads.txt:1 "ads.test"' in again.text, again
    gone = {**settings, "lists.cache": "/run/empty"}
    internet.host_run(["mkdir", "-m", "777", "-p", "/run/empty"]).ok()
    without = internet.netstack_exec([*DIG, "+short", "ads.test"], gone).ok()
    assert without.text == "198.18.1.40\n", without
    assert "https://www.test/ads.txt cannot be fetched: HTTP status 404" in without.messages, without


def test_server_of_a_list_that_is_not_who_it_says_is_not_believed(internet: Internet) -> None:
    internet.host_run(["mkdir", "-m", "777", "-p", "/run/other"]).ok()
    settings = {"deny.lists": '["https://www.test/hello"]', "lists.cache": "/run/other"}
    done = internet.netstack_exec([*DIG, "+short", "www.test"], settings).ok()
    assert "certificate is not valid" in done.messages, done
