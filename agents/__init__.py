"""Agents: scripted policies, learned policies, and how well they play."""

if __name__ == "agents":
    raise ImportError(
        "This package is imported as 'worldmodel.agents', not as 'agents' (it would load all a second time). "
        "Write: import worldmodel.agents"
    )
