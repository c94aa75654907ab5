package registry

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"proot-distro/internal/oci"
	"proot-distro/internal/report"
)

// SearchRequest asks Docker Hub for repositories.
type SearchRequest struct {
	Query     string
	Limit     int               // at most so many results; 25 when 0
	Version   string            // of this program, for User-Agent
	Transport http.RoundTripper // replaces the network, in tests
}

// SearchResult is one repository on Docker Hub.
type SearchResult struct {
	Name        string // as one would install it: "ubuntu", "bitnami/redis"
	Description string // one line
	Stars       int64
	Pulls       int64
	Official    bool
}

const (
	searchAddress = "https://hub.docker.com/v2/search/repositories/"
	searchPage    = 100 // the most that Docker Hub gives at once
	searchBytes   = 8 << 20
)

// Search asks Docker Hub, best matches first. Failures are *Error.
func Search(ctx context.Context, req SearchRequest) ([]SearchResult, error) {
	if strings.TrimSpace(req.Query) == "" {
		return nil, fmt.Errorf("search needs a word to look for")
	}
	limit := cmp.Or(req.Limit, 25)
	inner := req.Transport
	if inner == nil {
		inner = newTransport(false)
	}
	courteous := &courteous{inner: inner, userAgent: userAgent(req.Version), stall: usualPace.stall}
	// No account is asked for: the search is public. It is not the registry that answers, so
	// errors name whoever was asked.
	c := &client{ref: oci.Ref{Registry: oci.DockerHub}, pace: usualPace,
		auth: &authorizer{report: report.Discard}, http: &http.Client{Transport: courteous, CheckRedirect: checkRedirect}}
	var found []SearchResult
	for page := 1; len(found) < limit; page++ {
		results, more, err := c.searchPage(ctx, req.Query, page, min(limit, searchPage))
		if err != nil {
			return nil, c.explain(err, "", MissingUnknown)
		}
		found = append(found, results...)
		if !more || len(results) == 0 {
			break
		}
	}
	return found[:min(limit, len(found))], nil
}

func (c *client) searchPage(ctx context.Context, query string, page, size int) (found []SearchResult, more bool, err error) {
	values := url.Values{"query": {query}, "page": {strconv.Itoa(page)}, "page_size": {strconv.Itoa(size)}}
	data, _, err := c.get(ctx, searchAddress+"?"+values.Encode(), nil, searchBytes)
	if err != nil {
		return nil, false, err
	}
	var answer struct {
		Next    string `json:"next"`
		Results []struct {
			Name        string `json:"repo_name"`
			Description string `json:"short_description"`
			Stars       int64  `json:"star_count"`
			Pulls       int64  `json:"pull_count"`
			Official    bool   `json:"is_official"`
		} `json:"results"`
	}
	if err := json.Unmarshal(data, &answer); err != nil {
		return nil, false, faultf(Protocol, "its search result is not JSON")
	}
	for _, r := range answer.Results {
		found = append(found, SearchResult{
			Name:        strings.TrimPrefix(r.Name, "library/"),
			Description: strings.Join(strings.Fields(r.Description), " "),
			Stars:       r.Stars, Pulls: r.Pulls, Official: r.Official,
		})
	}
	return found, answer.Next != "", nil
}
