"""What every benchmark needs: environments, processes, servers, a report."""
