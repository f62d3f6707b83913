"""Agents: scripted, learned and planning policies, and their evaluation."""

if __name__ == "agents":
    raise ImportError(
        "This package is imported as 'worldmodel.agents', not as 'agents' (every module would be loaded twice). "
        "Write: import worldmodel.agents"
    )
