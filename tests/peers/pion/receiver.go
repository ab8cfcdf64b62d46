// Receives WHIP with pion (RFC 9725) and counts what it gets. Untouched pion, as in MediaMTX, LiveKit and Broadcast Box.
//
// Usage: pion-receiver ADDRESS PORT [REPORTS]. REPORTS: `usual` (once a second, NACK and TWCC), `on-sr` (a receiver report
// in answer to each sender report, as libdatachannel has it), `none`. Ten times a second one JSON line tells what came;
// SIGUSR1 asks for a keyframe. Media comes to ten UDP ports from PORT on. Ends when its standard input is closed.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pion/ice/v2"
	"github.com/pion/interceptor"
	"github.com/pion/rtcp"
	"github.com/pion/webrtc/v3"
)

// What of a track came.
type stream struct {
	codec   string
	ssrc    uint32
	packets int
	frames  int
	newest  int64
	oldest  int64
	seen    map[int64]bool
	last    time.Time
	worst   time.Duration
}

type session struct {
	connection *webrtc.PeerConnection
	offer      string
	credential string
	streams    map[string]*stream
	restarts   int
}

// The figures of one line, all of the newest session.
type figures struct {
	Session  int    `json:"session"`
	Sessions int    `json:"sessions"`
	Ended    int    `json:"ended"`
	Restarts int    `json:"restarts"`
	State    string `json:"state"`
	Codec    string `json:"codec"`
	Frames   int    `json:"frames"`
	Lost     int64  `json:"lost"`
	GapMs    int64  `json:"gapMs"`
	Audio    int    `json:"audio"`
}

type server struct {
	lock    sync.Mutex
	api     *webrtc.API
	reports string
	newest  int
	ended   int
	open    map[int]*session
}

func main() {
	reports := "usual"
	if len(os.Args) > 3 {
		reports = os.Args[3]
	}
	port, err := strconv.ParseUint(os.Args[2], 10, 16)
	must(err)
	api, err := newAPI(os.Args[1], uint16(port), reports)
	must(err)
	s := &server{api: api, reports: reports, open: map[int]*session{}}
	listener, err := net.Listen("tcp", net.JoinHostPort(os.Args[1], os.Args[2]))
	must(err)
	go func() { must(http.Serve(listener, s)) }()
	fmt.Println("ready")
	go s.tell()
	go s.askForKeyframes()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func newAPI(address string, port uint16, reports string) (*webrtc.API, error) {
	var settings webrtc.SettingEngine
	settings.SetIncludeLoopbackCandidate(true)
	// So that a test knows which to block.
	if err := settings.SetEphemeralUDPPortRange(port, port+9); err != nil {
		return nil, err
	}
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetIPFilter(func(ip net.IP) bool { return ip.Equal(net.ParseIP(address)) })
	// A tunnel is longer than pion's own 30 s at most.
	settings.SetICETimeouts(5*time.Second, 60*time.Second, 2*time.Second)
	media := &webrtc.MediaEngine{}
	if err := media.RegisterDefaultCodecs(); err != nil {
		return nil, err
	}
	registry := &interceptor.Registry{}
	if reports == "usual" {
		if err := webrtc.RegisterDefaultInterceptors(media, registry); err != nil {
			return nil, err
		}
	}
	return webrtc.NewAPI(webrtc.WithSettingEngine(settings), webrtc.WithMediaEngine(media),
		webrtc.WithInterceptorRegistry(registry)), nil
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var number int
	_, _ = fmt.Sscanf(r.URL.Path, "/session/%d", &number)
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/whip":
		s.publish(w, string(body))
	case r.Method == http.MethodPatch:
		s.patch(w, number, string(body))
	case r.Method == http.MethodDelete:
		s.end(w, number)
	default:
		http.Error(w, "no such thing here", http.StatusNotFound)
	}
}

func (s *server) publish(w http.ResponseWriter, offer string) {
	connection, err := s.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	published := &session{connection: connection, offer: offer, credential: credential(offer), streams: map[string]*stream{}}
	connection.OnTrack(func(track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
		s.receive(published, track, receiver)
	})
	answer, err := published.answer(offer)
	if err != nil {
		_ = connection.Close()
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	s.lock.Lock()
	s.newest++
	number := s.newest
	s.open[number] = published
	s.lock.Unlock()
	w.Header().Set("Content-Type", "application/sdp")
	w.Header().Set("Location", fmt.Sprintf("/session/%d", number))
	w.Header().Set("ETag", fmt.Sprintf("%q", published.credential))
	w.WriteHeader(http.StatusCreated)
	_, _ = io.WriteString(w, answer)
}

// The answer with all candidates.
func (p *session) answer(offer string) (string, error) {
	if err := p.connection.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: offer}); err != nil {
		return "", err
	}
	answer, err := p.connection.CreateAnswer(nil)
	if err != nil {
		return "", err
	}
	gathered := webrtc.GatheringCompletePromise(p.connection)
	if err := p.connection.SetLocalDescription(answer); err != nil {
		return "", err
	}
	<-gathered
	return p.connection.LocalDescription().SDP, nil
}

// Trickled candidates, or new credentials: RFC 9725, 4.4.
func (s *server) patch(w http.ResponseWriter, number int, fragment string) {
	s.lock.Lock()
	patched := s.open[number]
	s.lock.Unlock()
	if patched == nil {
		http.Error(w, "no such session", http.StatusNotFound)
		return
	}
	if now := credential(fragment); now != "" && now != patched.credential {
		s.restart(w, patched, fragment, now)
		return
	}
	for _, candidate := range lines(fragment, "a=candidate:") {
		// A candidate of another family than ours is no fault.
		_ = patched.connection.AddICECandidate(webrtc.ICECandidateInit{Candidate: strings.TrimPrefix(candidate, "a=")})
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *server) restart(w http.ResponseWriter, p *session, fragment, now string) {
	var offer []string
	for _, line := range strings.Split(strings.TrimSpace(p.offer), "\r\n") {
		switch {
		case strings.HasPrefix(line, "a=ice-ufrag:"):
			line = "a=ice-ufrag:" + now
		case strings.HasPrefix(line, "a=ice-pwd:"):
			line = lines(fragment, "a=ice-pwd:")[0]
		case strings.HasPrefix(line, "a=candidate:"):
			continue
		}
		offer = append(offer, line)
	}
	p.offer, p.credential = strings.Join(offer, "\r\n")+"\r\n", now
	answer, err := p.answer(p.offer)
	if err != nil {
		http.Error(w, err.Error(), http.StatusUnprocessableEntity)
		return
	}
	for _, candidate := range lines(fragment, "a=candidate:") {
		_ = p.connection.AddICECandidate(webrtc.ICECandidateInit{Candidate: strings.TrimPrefix(candidate, "a=")})
	}
	s.lock.Lock()
	p.restarts++
	s.lock.Unlock()
	ours := append(lines(answer, "a=ice-ufrag:")[:1], lines(answer, "a=ice-pwd:")[0])
	ours = append(ours, lines(answer, "m=")[0], lines(answer, "a=mid:")[0])
	ours = append(ours, lines(answer, "a=candidate:")...)
	w.Header().Set("Content-Type", "application/trickle-ice-sdpfrag")
	w.Header().Set("ETag", fmt.Sprintf("%q", now))
	_, _ = io.WriteString(w, strings.Join(ours, "\r\n")+"\r\n")
}

func (s *server) end(w http.ResponseWriter, number int) {
	s.lock.Lock()
	ended := s.open[number]
	delete(s.open, number)
	s.lock.Unlock()
	if ended == nil {
		http.Error(w, "no such session", http.StatusNotFound)
		return
	}
	_ = ended.connection.Close()
	s.lock.Lock()
	s.ended++
	s.lock.Unlock()
	fmt.Println("deleted")
}

func (s *server) receive(p *session, track *webrtc.TrackRemote, receiver *webrtc.RTPReceiver) {
	heard := &stream{codec: track.Codec().MimeType, ssrc: uint32(track.SSRC()), seen: map[int64]bool{}}
	s.lock.Lock()
	p.streams[track.Kind().String()] = heard
	s.lock.Unlock()
	go s.answerReports(p, heard, receiver)
	for {
		packet, _, err := track.ReadRTP()
		if err != nil {
			return
		}
		s.lock.Lock()
		heard.count(packet.SequenceNumber, packet.Marker)
		s.lock.Unlock()
	}
}

// RTCP has to be read so that interceptors see it. With `on-sr` each sender report is answered.
func (s *server) answerReports(p *session, heard *stream, receiver *webrtc.RTPReceiver) {
	for {
		packets, _, err := receiver.ReadRTCP()
		if err != nil {
			return
		}
		for _, packet := range packets {
			report, isReport := packet.(*rtcp.SenderReport)
			if !isReport || s.reports != "on-sr" {
				continue
			}
			s.lock.Lock()
			block := rtcp.ReceptionReport{SSRC: report.SSRC, LastSequenceNumber: uint32(heard.newest)}
			s.lock.Unlock()
			_ = p.connection.WriteRTCP([]rtcp.Packet{&rtcp.ReceiverReport{SSRC: 1, Reports: []rtcp.ReceptionReport{block}}})
		}
	}
}

// Counts a packet, with its number made whole, and a frame by its last packet.
func (heard *stream) count(sequence uint16, isLast bool) {
	now := time.Now()
	number := int64(sequence)
	if heard.packets > 0 {
		number = heard.newest + int64(int16(sequence-uint16(heard.newest)))
	} else {
		heard.oldest, heard.newest = number, number
	}
	if heard.seen[number] {
		return
	}
	heard.seen[number] = true
	heard.packets++
	if number > heard.newest {
		heard.newest = number
	}
	if number < heard.oldest {
		heard.oldest = number
	}
	if isLast {
		heard.frames++
		if gap := now.Sub(heard.last); !heard.last.IsZero() && gap > heard.worst {
			heard.worst = gap
		}
		heard.last = now
	}
}

// One line of figures ten times a second. Packets that are still on their way count as lost for that long.
func (s *server) tell() {
	for range time.Tick(100 * time.Millisecond) {
		s.lock.Lock()
		told := figures{Session: s.newest, Sessions: len(s.open), Ended: s.ended}
		if p := s.open[s.newest]; p != nil {
			told.Restarts, told.State = p.restarts, p.connection.ConnectionState().String()
			if video := p.streams["video"]; video != nil {
				told.Codec, told.Frames = video.codec, video.frames
				told.Lost = video.newest - video.oldest + 1 - int64(video.packets)
				told.GapMs = video.worst.Milliseconds()
			}
			if audio := p.streams["audio"]; audio != nil {
				told.Audio = audio.packets
			}
		}
		s.lock.Unlock()
		line, err := json.Marshal(map[string]interface{}{"event": "Received", "data": told})
		must(err)
		fmt.Println(string(line))
	}
}

func (s *server) askForKeyframes() {
	asked := make(chan os.Signal, 1)
	signal.Notify(asked, syscall.SIGUSR1)
	for range asked {
		s.lock.Lock()
		p := s.open[s.newest]
		var ssrc uint32
		if p != nil && p.streams["video"] != nil {
			ssrc = p.streams["video"].ssrc
		}
		s.lock.Unlock()
		if ssrc != 0 {
			_ = p.connection.WriteRTCP([]rtcp.Packet{&rtcp.PictureLossIndication{SenderSSRC: 1, MediaSSRC: ssrc}})
		}
	}
}

func credential(sdp string) string {
	found := lines(sdp, "a=ice-ufrag:")
	if len(found) == 0 {
		return ""
	}
	return strings.TrimPrefix(found[0], "a=ice-ufrag:")
}

func lines(sdp, prefix string) []string {
	var found []string
	for _, line := range strings.Split(sdp, "\n") {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, prefix) {
			found = append(found, line)
		}
	}
	return found
}
