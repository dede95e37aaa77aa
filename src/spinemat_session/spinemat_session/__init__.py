"""Node session_orchestrator: intake, plan, treatment, report."""
